//! Stories of whole engines: creating, finding, and what a new daemon finds of an old one.

mod boots;
mod create;
mod find;
mod kills;
mod leftovers;
mod model;
mod pools;
mod pools_change;
mod restart;
mod room;
mod saving;
mod snapshots;
mod upkeep;
