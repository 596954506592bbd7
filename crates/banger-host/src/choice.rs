//! Decides which VMM and which accelerator a new machine gets. Pure: a wish and observations
//! in, a choice with its reason out.

use banger_core::{
    host::{Accelerator, VmmChoice, VmmKind},
    host_error::HostError,
};

use crate::probe::KvmVerdict;

/// What is known of this host when a VMM is chosen.
#[derive(Debug)]
pub(crate) struct Observations<'a> {
    pub(crate) kvm: &'a KvmVerdict,
    /// Why Firecracker cannot be used here, where it cannot.
    pub(crate) firecracker: Result<(), HostError>,
    /// A configuration that takes an emulating /dev/kvm for good enough.
    pub(crate) allow_emulated_kvm: bool,
}

pub(crate) fn choose(
    wanted: Option<VmmKind>,
    observations: Observations<'_>,
) -> Result<VmmChoice, HostError> {
    match wanted {
        Some(VmmKind::Firecracker) => firecracker_as_asked(observations),
        Some(VmmKind::Qemu) => Ok(qemu(observations.kvm, "it was asked for")),
        None => Ok(best(&observations)),
    }
}

/// Firecracker needs the processor's own virtualization, and gives nothing away for it.
fn best(observations: &Observations<'_>) -> VmmChoice {
    match (observations.kvm.is_usable(), &observations.firecracker) {
        (true, Ok(())) => firecracker(observations.kvm.explain()),
        (true, Err(error)) => qemu(
            observations.kvm,
            &format!("Firecracker cannot be used: {error}"),
        ),
        (false, _) => qemu(observations.kvm, ""),
    }
}

fn firecracker_as_asked(observations: Observations<'_>) -> Result<VmmChoice, HostError> {
    observations.firecracker?;
    let why = observations.kvm.explain();
    match observations.kvm {
        KvmVerdict::Real => Ok(firecracker(format!("it was asked for; {why}"))),
        KvmVerdict::Emulating { .. } if observations.allow_emulated_kvm => Ok(firecracker(
            format!("it was asked for, and the configuration allows it although {why}"),
        )),
        KvmVerdict::Emulating { .. } => Err(refused(format!(
            "{why}; most guests die of that, so only allow_emulated_kvm in the configuration \
             lets them try; leave --vmm out, and QEMU emulates properly"
        ))),
        KvmVerdict::Absent | KvmVerdict::Forbidden | KvmVerdict::Undecided { .. } => Err(refused(
            format!("{why}; leave --vmm out, and QEMU runs the machine without it"),
        )),
    }
}

fn firecracker(reason: String) -> VmmChoice {
    VmmChoice {
        vmm: VmmKind::Firecracker,
        accelerator: Accelerator::Kvm,
        reason,
    }
}

fn qemu(kvm: &KvmVerdict, because: &str) -> VmmChoice {
    let why = kvm.explain();
    let (accelerator, how) = if kvm.is_usable() {
        (Accelerator::Kvm, why)
    } else {
        (
            Accelerator::Tcg,
            format!("QEMU emulates the processor, because {why}"),
        )
    };
    let reason = match because {
        "" => how,
        because => format!("{because}; {how}"),
    };
    VmmChoice {
        vmm: VmmKind::Qemu,
        accelerator,
        reason,
    }
}

fn refused(reason: String) -> HostError {
    HostError::Unsupported {
        feature: "Firecracker".into(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulating() -> KvmVerdict {
        KvmVerdict::Emulating {
            because: "it stopped".into(),
        }
    }

    fn missing() -> Result<(), HostError> {
        Err(HostError::ProgramMissing {
            program: "firecracker".into(),
            package: "firecracker",
        })
    }

    fn choice(
        wanted: Option<VmmKind>,
        kvm: &KvmVerdict,
        firecracker: Result<(), HostError>,
    ) -> Result<VmmChoice, HostError> {
        choose(
            wanted,
            Observations {
                kvm,
                firecracker,
                allow_emulated_kvm: false,
            },
        )
    }

    #[test]
    fn the_host_decides_where_nobody_asks() {
        let check = |kvm: KvmVerdict, there: Result<(), HostError>, wanted| {
            let choice = choice(None, &kvm, there).unwrap();
            assert_eq!((choice.vmm, choice.accelerator), wanted, "{kvm:?}");
            assert!(choice.reason.contains("/dev/kvm"), "{}", choice.reason);
        };
        let real_firecracker = (VmmKind::Firecracker, Accelerator::Kvm);
        let emulation = (VmmKind::Qemu, Accelerator::Tcg);
        check(KvmVerdict::Real, Ok(()), real_firecracker);
        check(
            KvmVerdict::Real,
            missing(),
            (VmmKind::Qemu, Accelerator::Kvm),
        );
        check(emulating(), Ok(()), emulation);
        check(KvmVerdict::Absent, Ok(()), emulation);
        check(KvmVerdict::Forbidden, Ok(()), emulation);
        let undecided = KvmVerdict::Undecided {
            because: "busy".into(),
        };
        check(undecided, Ok(()), emulation);
    }

    #[test]
    fn a_wish_is_followed_or_refused_with_a_reason() {
        let asked = Some(VmmKind::Firecracker);
        assert!(choice(asked, &KvmVerdict::Real, Ok(())).is_ok());
        assert!(choice(Some(VmmKind::Qemu), &KvmVerdict::Real, Ok(())).is_ok());
        let check = |kvm: KvmVerdict, there, told: &str| {
            let error = choice(asked, &kvm, there).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        };
        check(emulating(), Ok(()), "allow_emulated_kvm");
        check(KvmVerdict::Absent, Ok(()), "there is no /dev/kvm");
        check(KvmVerdict::Forbidden, Ok(()), "may not open");
        check(KvmVerdict::Real, missing(), "cannot find firecracker");
    }

    #[test]
    fn a_configuration_may_take_an_emulating_kvm() {
        let observations = Observations {
            kvm: &emulating(),
            firecracker: Ok(()),
            allow_emulated_kvm: true,
        };
        let choice = choose(Some(VmmKind::Firecracker), observations).unwrap();
        assert_eq!(choice.vmm, VmmKind::Firecracker);
        assert!(choice.reason.contains("emulates"), "{}", choice.reason);
    }
}
