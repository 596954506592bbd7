//! Pairs of boots: banger's whole `run`, and QEMU by hand to the agent's first answer.

use std::{thread::sleep, time::Duration};

use super::{
    BenchError,
    home::{Home, IMAGE, output, run},
    qemu::{ByHand, Machine},
    stats::ratio,
};

/// Lets the host catch its breath between two boots, so that neither pays for the other's end.
const BREATH: Duration = Duration::from_millis(300);

const RUN: [&str; 6] = ["run", "--rm", "--image", IMAGE, "--", "true"];

/// Seconds of both sides, measured one after the other.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Pair {
    pub(super) banger: f64,
    pub(super) by_hand: f64,
}

impl Pair {
    /// How many times as long banger took.
    pub(super) fn ratio(&self) -> f64 {
        ratio(self.banger, self.by_hand)
    }
}

/// Everything that both sides need, warmed up.
#[derive(Debug)]
pub(super) struct Boots<'a> {
    home: &'a Home,
    by_hand: ByHand,
}

impl<'a> Boots<'a> {
    /// Reads the command line off a VM of banger's and sets the other side up with it.
    pub(super) fn prepare(home: &'a Home, say: &mut dyn FnMut(&str)) -> Result<Self, BenchError> {
        say("a machine to learn the command line from");
        let show = ["vm", "show", "--json", "model"];
        home.banger(&["vm", "create", "--no-start", "--name", "model"])?;
        let vm = home.json(&show)?;
        let disk = vm["disk_path"]
            .as_str()
            .ok_or_else(|| output(&show, "disk_path"))?;
        let fresh = home.path("fresh.ext4");
        let mut copy = std::process::Command::new("cp");
        copy.arg("--sparse=always").arg(disk).arg(&fresh);
        run(copy)?;
        home.banger(&["vm", "start", "model"])?;
        let argv = home.command_line_of("model")?;
        home.banger(&["rm", "--force", "model"])?;
        let by_hand = ByHand::like(&argv, home.path("by-hand"), fresh)?;
        let boots = Self { home, by_hand };
        say("a pair that warms up");
        boots.pair()?;
        Ok(boots)
    }

    pub(super) fn pair(&self) -> Result<Pair, BenchError> {
        sleep(BREATH);
        let banger = self.home.time(&RUN)?;
        sleep(BREATH);
        let (machine, by_hand) = self.by_hand.boot()?;
        drop(machine);
        Ok(Pair { banger, by_hand })
    }

    /// A machine by hand, for whoever wants to speak to its agent.
    pub(super) fn by_hand(&self) -> Result<Machine, BenchError> {
        Ok(self.by_hand.boot()?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_knows_its_ratio() {
        let pair = Pair {
            banger: 2.2,
            by_hand: 2.0,
        };
        assert!((pair.ratio() - 1.1).abs() < 1e-9);
    }
}
