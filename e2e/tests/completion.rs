//! Tab in real shells: names of machines that are there now, commands, flags.
#![forbid(unsafe_code)]

use e2e::{World, has_programs};

/// What a shell makes of the words so far, one candidate a line.
struct Shell {
    program: &'static str,
    /// Asks for the candidates of `$LINE`, whose last word is not yet whole.
    script: &'static str,
}

const BASH: Shell = Shell {
    program: "bash",
    script: r#"
source <(banger completion bash)
read -ra COMP_WORDS <<<"$LINE"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9
how=$(complete -p banger); how=${how##*-F }
${how%% *} banger "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\n' "${COMPREPLY[@]}"
"#,
};

/// A shell that believes that somebody types into it.
const ZSH: Shell = Shell {
    program: "zsh",
    script: r#"
zmodload zsh/zpty
zpty typist "zsh -f -i"
zpty -w typist "PS1=; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D"
zpty -w typist "source <(banger completion zsh); bindkey '^I' complete-word; echo pre''pared"
zpty -r typist said "*prepared*"
zpty -w -n typist "$LINE"$'\t\C-aecho typed: \C-e\n'
zpty -r typist said "*"$'\n'"typed: *"$'\n'
print -r -- "${said##*typed: }"
zpty -d typist
"#,
};

const FISH: Shell = Shell {
    program: "fish",
    script: r#"
banger completion fish | source
complete --do-complete "$LINE" | string split --fields 1 \t
true
"#,
};

#[expect(clippy::print_stderr, reason = "who skips a story says so")]
fn completes(shell: &Shell) {
    if !has_programs(&[shell.program]) {
        eprintln!("SKIPPED: there is no {} here", shell.program);
        return;
    }
    let world = World::new();
    let create = ["vm", "create", "--no-start", "--name", "weblog-12"];
    world.banger(create).ok();
    let file = world.home().join("script");
    std::fs::write(&file, shell.script).expect("the home is writable");
    let config = world.home().join("shell");
    std::fs::create_dir_all(&config).expect("the home is writable");
    let check = |line: &str, wanted: &str| {
        let run = format!("exec {} $BANGER_HOME/script", shell.program);
        let call = world.shell(&run).env("LINE", line);
        // Nothing of whoever runs this story.
        let call = call.env("HOME", &config).env("XDG_CONFIG_HOME", &config);
        let said = call.run().ok().text();
        let offers = |offer: &str| offer.split_whitespace().last() == Some(wanted);
        assert!(said.lines().any(offers), "{line}: {said}");
    };
    check("banger vm stop weblo", "weblog-12");
    check("banger vm snapsh", "snapshot");
    check("banger vm create --auto", "--autostart");
    check("banger config set vm_defaults.mem", "vm_defaults.memory");
}

#[test]
fn bash_completes_names_that_are_there_now() {
    completes(&BASH);
}

#[test]
fn zsh_completes_names_that_are_there_now() {
    completes(&ZSH);
}

#[test]
fn fish_completes_names_that_are_there_now() {
    completes(&FISH);
}
