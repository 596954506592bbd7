//! Where the time of a boot goes, with every kernel that is at hand, by banger's own timeline.

use std::{path::Path, process::Stdio};

use serde_json::Value;

use super::{
    BenchError, Report,
    figures::{Figure, Unit},
    home::{Home, IMAGE, KERNEL, output},
    stats::{median, ratio},
};

/// What `banger kernel list` calls our own kernel.
const GENERIC: &str = "generic-6.12";

/// The stages of a boot: the timeline's name, and what has happened by then.
const STAGES: [(&str, &str); 8] = [
    ("vmm_started_ms", "VMM started"),
    ("kernel_entered_ms", "kernel entered"),
    ("init_entered_ms", "first process entered"),
    ("modules_loaded_ms", "drivers for the root loaded"),
    ("root_mounted_ms", "root mounted"),
    ("agent_ready_ms", "agent ready"),
    ("connected_ms", "agent answered"),
    ("command_started_ms", "command started"),
];
/// What the goals are about: from QEMU's start to the agent.
const FROM: &str = "vmm_started_ms";
const TO: &str = "agent_ready_ms";

/// Boots with Debian's kernel and, where its directory is given, with our own, alternating.
pub fn boot(
    programs: &Path,
    generic: Option<&Path>,
    rounds: usize,
    say: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let home = Home::make(programs, say)?;
    let mut kernels = vec![(KERNEL, Vec::new())];
    if let Some(directory) = generic {
        let from = directory.to_string_lossy();
        home.banger(&["kernel", "import", GENERIC, "--from", &from])?;
        kernels.push((GENERIC, Vec::new()));
    }
    for round in 0..=rounds {
        for (kernel, boots) in &mut kernels {
            let timeline = one(&home, kernel)?;
            // The first one warms up.
            if round > 0 {
                say(&format!("{round} of {rounds}: {kernel}: {timeline}"));
                boots.push(timeline);
            }
        }
    }
    let mut report = Report::default();
    for (kernel, boots) in &kernels {
        report.add(stages(kernel, boots));
    }
    if let [(_, debian), (_, generic)] = kernels.as_slice() {
        let figure = "agent with our own kernel, beside Debian's";
        let value = ratio(to_agent(generic), to_agent(debian));
        report.add(vec![Figure::new(figure, Unit::Times, value).goal(0.45)]);
    }
    Ok(report)
}

/// One machine that runs `true` and goes away; its timeline comes on standard error.
fn one(home: &Home, kernel: &str) -> Result<Value, BenchError> {
    let args = [
        "run", "--rm", "--json", "--image", IMAGE, "--kernel", kernel, "--", "true",
    ];
    let mut command = home.command(&args);
    command.stdout(Stdio::null());
    let told = super::home::run(command)?.stderr;
    let told: Value = serde_json::from_slice(&told).map_err(|_| output(&args, "JSON"))?;
    Ok(told["vm"]["boot"].clone())
}

fn seconds(timeline: &Value, stage: &str) -> f64 {
    timeline[stage].as_f64().map_or(f64::NAN, |ms| ms / 1000.0)
}

fn to_agent(boots: &[Value]) -> f64 {
    median(
        boots
            .iter()
            .map(|boot| seconds(boot, TO) - seconds(boot, FROM)),
    )
}

fn stages(kernel: &str, boots: &[Value]) -> Vec<Figure> {
    let stage = |(name, what): &(&str, &str)| {
        let at = median(boots.iter().map(|boot| seconds(boot, name)));
        Figure::new(format!("{kernel}: {what}"), Unit::Seconds, at)
    };
    let mut figures: Vec<_> = STAGES.iter().map(stage).collect();
    let whole = format!("{kernel}: from the VMM's start to the agent");
    figures.push(Figure::new(whole, Unit::Seconds, to_agent(boots)));
    figures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_way_to_the_agent_begins_with_the_vmm() {
        let boots = [
            json!({"vmm_started_ms": 20, "agent_ready_ms": 1020}),
            json!({"vmm_started_ms": 50, "agent_ready_ms": 1250}),
            json!({"vmm_started_ms": 10, "agent_ready_ms": 5010}),
        ];
        assert!((to_agent(&boots) - 1.2).abs() < 1e-9);
        assert!(to_agent(&[json!({})]).is_nan());
    }
}
