//! Owns what this process does with its own memory. Knows nothing of guests.

use crate::sys;

/// To be called first of all: keeps the memory of large pieces of work from staying with us.
pub fn set_up() {
    sys::fix_heap_limits();
}

/// Gives back to the kernel what a finished piece of work has freed: the C library keeps it per
/// thread otherwise, so that one import would make an idle daemon twice as large for good.
pub fn give_back() {
    sys::trim_heap();
}
