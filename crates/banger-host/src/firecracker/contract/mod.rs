//! Stories of the real Firecracker, told with a guest of a few bytes that the tests assemble
//! themselves. They need a /dev/kvm that opens, and say so where there is none.

mod calls;
mod confinement;
mod guest;
mod kills;
mod leaks;
mod saves;
mod story;
