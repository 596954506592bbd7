//! What an image's configuration adds to a command, by docker's rules. Pure.

use banger_image::manifest::ImageConfig;

use crate::exec::ExecRequest;

/// How much of an image's configuration a command takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImageUse {
    /// Environment, user and working directory, as `docker exec` does.
    #[default]
    Surroundings,
    /// Also its command, as `docker run` does.
    Command {
        /// Takes the place of the image's entrypoint, and of its command.
        entrypoint: Option<String>,
    },
}

/// A request with what the image says where the request is silent.
#[must_use]
pub fn apply(request: ExecRequest, usage: ImageUse, config: &ImageConfig) -> ExecRequest {
    let argv = match usage {
        ImageUse::Surroundings => request.argv,
        ImageUse::Command { entrypoint } => command(request.argv, entrypoint, config),
    };
    let own = config.env.iter().cloned();
    ExecRequest {
        argv,
        // Later values win.
        env: own.chain(request.env).collect(),
        cwd: request.cwd.or_else(|| config.workdir.clone()),
        user: request.user.or_else(|| config.user.clone()),
        tty: request.tty,
    }
}

/// What is given replaces the command; an entrypoint that is given replaces both.
fn command(given: Vec<String>, entrypoint: Option<String>, config: &ImageConfig) -> Vec<String> {
    let (mut argv, default) = match entrypoint {
        Some(entrypoint) => {
            // An empty one takes the image's away.
            let own = Some(entrypoint).filter(|entrypoint| !entrypoint.is_empty());
            (own.into_iter().collect(), Vec::new())
        }
        None => (config.entrypoint.clone(), config.cmd.clone()),
    };
    argv.extend(if given.is_empty() { default } else { given });
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_follow_dockers_rules() {
        let check =
            |entrypoint: &str, cmd: &str, over: Option<&str>, given: &str, expected: &str| {
                let config = ImageConfig {
                    entrypoint: words(entrypoint),
                    cmd: words(cmd),
                    ..ImageConfig::default()
                };
                let request = ExecRequest {
                    argv: words(given),
                    ..ExecRequest::default()
                };
                let usage = ImageUse::Command {
                    entrypoint: over.map(str::to_owned),
                };
                let applied = apply(request, usage, &config);
                assert_eq!(
                    applied.argv,
                    words(expected),
                    "{entrypoint} {cmd} {over:?} {given}"
                );
            };
        check("", "", None, "", "");
        check("", "sh", None, "", "sh");
        check("", "sh", None, "ls /", "ls /");
        check("/entry", "serve", None, "", "/entry serve");
        check("/entry", "serve", None, "check", "/entry check");
        check("/entry", "serve", Some("/bin/sh"), "", "/bin/sh");
        check("/entry", "serve", Some("/bin/sh"), "-c x", "/bin/sh -c x");
        check("/entry", "serve", Some(""), "ls", "ls");
        check("/entry", "serve", Some(""), "", "");
    }

    #[test]
    fn what_is_asked_for_wins_over_what_the_image_says() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let config = ImageConfig {
            entrypoint: words("/entry"),
            env: vec![pair("A", "image"), pair("B", "image")],
            user: Some("web".into()),
            workdir: Some("/srv".into()),
            ..ImageConfig::default()
        };
        let silent = ExecRequest {
            argv: words("ls"),
            ..ExecRequest::default()
        };
        let applied = apply(silent, ImageUse::Surroundings, &config);
        assert_eq!(
            applied.argv,
            words("ls"),
            "the entrypoint is for runs alone"
        );
        assert_eq!(
            (applied.user.as_deref(), applied.cwd.as_deref()),
            (Some("web"), Some("/srv"))
        );
        let loud = ExecRequest {
            env: vec![pair("A", "given")],
            user: Some("root".into()),
            cwd: Some("/".into()),
            ..ExecRequest::default()
        };
        let applied = apply(loud, ImageUse::Surroundings, &config);
        assert_eq!(
            (applied.user.as_deref(), applied.cwd.as_deref()),
            (Some("root"), Some("/"))
        );
        assert_eq!(applied.env.last(), Some(&pair("A", "given")));
    }
}
