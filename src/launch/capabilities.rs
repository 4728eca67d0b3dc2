//! The program's capabilities (capabilities(7)), set by a launcher that has more.
//!
//! Two moments, since each needs what the other takes. The bounding set is cut while the launcher is root with an
//! effective CAP_SETPCAP; all else is set when the program's user has been become, since the change of user itself
//! takes CAP_SETUID and empties the sets that an ordinary user's program shall keep.

use std::io;

use rustix::{
    io::Errno,
    thread::{
        self, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities,
    },
};

use super::failure::{failure, refusal};
use crate::{
    plan::CapabilitySets,
    protocol::{Failure, Stage},
    spec::{Capability, CapabilitySet},
};

/// Before the user changes: cuts the bounding set, and has the kernel keep the permitted one over the change. The
/// effective set is lost in it, so that until [`set`] all is done with an ordinary user's rights.
pub(super) fn prepare(sets: &CapabilitySets) -> Result<(), Failure> {
    for capability in (CapabilitySet::ALL - sets.bounding).iter() {
        match drop_from_bounding(capability) {
            Ok(true) => {}
            // Numbers from here on are not the kernel's.
            Ok(false) => break,
            Err(error) => {
                let act = format!("take {capability} out of the bounding set");
                return Err(failure(Stage::Confine, act, None, &error, "the launcher needs CAP_SETPCAP"));
            }
        }
    }
    let cure = "does the unit lock SecureBits=?";
    set_keep_capabilities(true).map_err(|errno| {
        failure(Stage::Confine, "keep capabilities over the change of user", None, &errno.into(), cure)
    })
}

/// Takes a capability out of the bounding set, where it may be gone already. False if the kernel has no such one.
fn drop_from_bounding(capability: Capability) -> io::Result<bool> {
    let one = raw(capability.into());
    let Err(errno) = remove_capability_from_bounding_set(one) else { return Ok(true) };
    match capability_is_in_bounding_set(one) {
        // Who may not take it out need not, if it is not there.
        Ok(false) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        _ => Err(errno.into()),
    }
}

/// Gives the process the program's sets, as far as the launcher has them: the ambient set last, since it can hold
/// only what is permitted and inheritable.
pub(super) fn set(sets: &CapabilitySets) -> Result<(), Failure> {
    let fail = |error: io::Error| {
        let act = format!("set the capabilities {}", sets.effective);
        failure(Stage::Confine, act, None, &error, "does the unit restrict them, or lock SecureBits=?")
    };
    let had = capabilities(None).map_err(|errno| fail(errno.into()))?;
    let had = CapabilitySet::from_bits(had.permitted.bits());
    let lacking = sets.required - had;
    if !lacking.is_empty() {
        return Err(cannot_give(lacking));
    }
    give(sets, had).map_err(fail)
}

/// The system calls.
fn give(sets: &CapabilitySets, had: CapabilitySet) -> io::Result<()> {
    let effective = raw(sets.effective & had);
    let inheritable = raw(sets.inheritable & had);
    set_capabilities(None, thread::CapabilitySets { effective, permitted: effective, inheritable })?;
    clear_ambient_capability_set()?;
    for capability in (sets.ambient & had).iter() {
        configure_capability_in_ambient_set(raw(capability.into()), true)?;
    }
    // An init executes nothing that would reset it.
    Ok(set_keep_capabilities(false)?)
}

/// The program was to have what the launcher does not have.
fn cannot_give(lacking: CapabilitySet) -> Failure {
    let message = format!(
        "cannot give the program {lacking}: the launcher does not have it itself; take it out of [capabilities], or \
         have it given to the service manager and the unit (CapabilityBoundingSet=, or what the host itself runs in)"
    );
    Failure { errno: Some(libc::EPERM), ..refusal(Stage::Confine, None, message) }
}

/// As rustix has it.
fn raw(set: CapabilitySet) -> thread::CapabilitySet {
    thread::CapabilitySet::from_bits_retain(set.bits())
}
