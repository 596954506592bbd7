//! A plain web server for a directory, which knows nothing but files: python's.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A server that ends with this value.
#[derive(Debug)]
pub struct StaticServer {
    process: Child,
    url: String,
}

impl StaticServer {
    /// Serves a directory on a free port of the loopback.
    #[must_use]
    pub fn serve(directory: &Path) -> Self {
        let mut process = Command::new("python3")
            .args([
                "-u",
                "-m",
                "http.server",
                "--bind",
                "127.0.0.1",
                "--directory",
            ])
            .arg(directory)
            .arg("0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is there: the tests of every Debian package need it");
        let output = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("the server says where it listens");
        let url = line.split(['(', ')']).nth(1);
        let url = url.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self {
            process,
            url: url.to_owned(),
        }
    }

    /// The directory's address, with a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it now, for stories of what happens then.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for StaticServer {
    fn drop(&mut self) {
        self.stop();
    }
}
