//! Decides which VMM and which accelerator a new machine gets. Pure: a wish and a verdict in,
//! a choice with its reason out.

use banger_core::{
    host::{Accelerator, VmmChoice, VmmKind},
    host_error::HostError,
};

use crate::probe::KvmVerdict;

pub(crate) fn choose(
    wanted: Option<VmmKind>,
    verdict: &KvmVerdict,
) -> Result<VmmChoice, HostError> {
    let vmm = wanted.unwrap_or(VmmKind::Qemu);
    refuse_what_is_not_built(vmm)?;
    let why = verdict.explain();
    let (accelerator, reason) = if verdict.is_usable() {
        (Accelerator::Kvm, why)
    } else {
        (
            Accelerator::Tcg,
            format!("QEMU emulates the processor, because {why}"),
        )
    };
    Ok(VmmChoice {
        vmm,
        accelerator,
        reason,
    })
}

pub(crate) fn refuse_what_is_not_built(vmm: VmmKind) -> Result<(), HostError> {
    match vmm {
        VmmKind::Qemu => Ok(()),
        VmmKind::Firecracker => Err(HostError::Unsupported {
            feature: "firecracker".into(),
            reason: "this version of banger drives QEMU only; leave the VMM out, or ask for qemu"
                .into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_kvm_is_used() {
        let because = || "it stopped".to_owned();
        let check = |verdict: KvmVerdict, wanted: Accelerator| {
            let choice = choose(None, &verdict).unwrap();
            assert_eq!(
                (choice.vmm, choice.accelerator),
                (VmmKind::Qemu, wanted),
                "{verdict:?}"
            );
            assert!(choice.reason.contains("/dev/kvm"), "{}", choice.reason);
        };
        check(KvmVerdict::Real, Accelerator::Kvm);
        check(
            KvmVerdict::Emulating { because: because() },
            Accelerator::Tcg,
        );
        check(KvmVerdict::Absent, Accelerator::Tcg);
        check(KvmVerdict::Forbidden, Accelerator::Tcg);
        check(
            KvmVerdict::Undecided { because: because() },
            Accelerator::Tcg,
        );
    }

    #[test]
    fn firecracker_is_refused_by_name() {
        let error = choose(Some(VmmKind::Firecracker), &KvmVerdict::Real).unwrap_err();
        assert!(error.to_string().contains("firecracker"), "{error}");
    }
}
