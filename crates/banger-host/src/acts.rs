//! What the start of a machine makes, under the names that the journal has for it. Makes nothing.

use std::path::PathBuf;

use banger_core::{
    host::VmPlaces,
    journal::{Act, Journal, JournalError},
    spec::Network,
};

use crate::{
    cgroups,
    firecracker::{jail, uplink, walls::Walls},
    places::vmm_lock,
    sys::UPLINK_TAP,
};

pub(crate) fn sockets(places: &VmPlaces) -> Act {
    Act::Sockets(places.runtime.clone())
}

pub(crate) fn vmm(places: &VmPlaces) -> Act {
    Act::Vmm(vmm_lock(places))
}

pub(crate) fn jail(places: &VmPlaces) -> Act {
    Act::Jail(jail::base(places))
}

pub(crate) fn uplink(places: &VmPlaces) -> Act {
    Act::Uplink(uplink::lock(places))
}

pub(crate) fn groups(directories: &[PathBuf]) -> Vec<Act> {
    directories.iter().cloned().map(Act::Group).collect()
}

/// What a confined VMM makes for itself on its way, and takes along when it ends.
pub(crate) fn inside(places: &VmPlaces, walls: Walls, network: Network) -> Vec<Act> {
    let namespaces = Act::Namespaces(jail::root(places));
    let tap = Act::Tap(UPLINK_TAP.to_owned());
    match (walls, network) {
        (Walls::Landlock, _) => vec![vmm(places)],
        (Walls::Jailer | Walls::Namespaces, Network::None) => vec![namespaces, vmm(places)],
        (Walls::Jailer | Walls::Namespaces, Network::User) => vec![namespaces, tap, vmm(places)],
    }
}

/// All that a start under QEMU makes, in its order.
pub(crate) fn of_qemu(places: &VmPlaces) -> Vec<Act> {
    let mut acts = vec![sockets(places), vmm(places)];
    acts.extend(groups(&cgroups::planned(places)));
    acts
}

/// All that a start under Firecracker makes, in its order.
pub(crate) fn of_firecracker(places: &VmPlaces, walls: Walls, network: Network) -> Vec<Act> {
    let mut acts = vec![sockets(places)];
    match walls {
        Walls::Landlock => {}
        Walls::Jailer | Walls::Namespaces => acts.push(jail(places)),
    }
    acts.extend(inside(places, walls, network));
    acts.extend(groups(&cgroups::planned(places)));
    match network {
        Network::None => {}
        Network::User => acts.push(uplink(places)),
    }
    acts
}

/// Strikes what has ended with a VMM, whichever that was.
pub(crate) fn strike_inside(places: &VmPlaces, journal: &dyn Journal) -> Result<(), JournalError> {
    let all = inside(places, Walls::Namespaces, Network::User);
    all.iter().try_for_each(|act| journal.strike(act))
}
