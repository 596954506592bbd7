//! What a host and the agent in its guest say to each other: the byte stream, the greeting, the requests, the limits.
//!
//! From the bottom up:
//!
//! | module | owns |
//! |---|---|
//! | [`wire`] | a byte stream that can be started afresh in the middle of old data |
//! | [`hello`] | the greeting that fixes the generation, right after a fresh start |
//! | [`session`] | HTTP/2 over the wire: streams, flow control, the host's typed client |
//! | [`message`] | the requests and their JSON documents |
//! | [`frame`] | the frames inside an exec's two bodies |
//! | [`mac`] | the address of a network card |
//! | [`boot`] | what the kernel's command line tells the agent before any wire exists |
//!
//! Everything runs over any tokio byte stream; nothing here knows virtio, vsock, processes or mounts.
//!
//! # Generations
//!
//! [`hello::GENERATION`] numbers everything that crosses the wire after the greeting. **A generation is frozen once it
//! is released**: its routes, frames, fields and limits keep their meaning for ever, because a running guest keeps the
//! agent that it booted with while the host is upgraded around it. Additions that an older peer can ignore (a new
//! optional JSON field, a new route that the host tries only when it can live with a refusal) stay within a
//! generation; anything else needs the next number, and the host speaks both for as long as old guests may live.
//!
//! | generation | brought |
//! |---|---|
//! | 1 | everything that is not named below |
//! | 2 | `POST /v1/identity`, for guests that go on as copies; `POST /v1/clock`, for those that stood still |
//!
//! The wire and the greeting themselves lie below the generation and never change. The words of [`boot`] travel with
//! the agent that reads them and are free to change.

#![forbid(unsafe_code)]

pub mod boot;
pub mod frame;
pub mod hello;
pub mod mac;
pub mod message;
pub mod session;
pub mod wire;

pub use session::client::{Client, ClientError, Connection};
