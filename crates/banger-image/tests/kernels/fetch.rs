//! Downloads: bounded, retried, whole or not there at all.

use banger_image::digest::Sha256;
use banger_image::fetch::{Expect, FetchError, Fetched};

use crate::support::server::{Answer, Server};
use crate::support::{fetcher, report};

/// Fetches one answer into a directory; what is in the directory afterwards is checked.
async fn check(answer: Answer, expect: Expect) -> (Result<Fetched, FetchError>, usize) {
    let server = Server::start().await;
    server.set("file", answer);
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("file");
    let url = server.url("file").parse().unwrap();
    let result = fetcher()
        .to_file(&url, &destination, expect, &report())
        .await;
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, usize::from(result.is_ok()), "whole or nothing");
    if let Ok(fetched) = &result {
        assert_eq!(
            Sha256::of(&std::fs::read(destination).unwrap()),
            fetched.digest
        );
    }
    (result, server.requests().len())
}

fn body() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn a_whole_file_appears_with_its_digest() {
    let expect = Expect::exactly(1_200_000, Sha256::of(&body()));
    let (result, requests) = check(Answer::Body(body()), expect).await;
    assert_eq!(result.unwrap().size, 1_200_000);
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn passing_trouble_is_tried_again() {
    let expect = Expect::exactly(1_200_000, Sha256::of(&body()));
    let (result, requests) = check(Answer::Flaky(2, body()), expect).await;
    result.unwrap();
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn lasting_trouble_ends() {
    let any = Expect::at_most(10_000_000);
    let (result, requests) = check(Answer::Status(503), any).await;
    assert!(matches!(result, Err(FetchError::Status { .. })));
    assert_eq!(requests, 3);
    let (result, requests) = check(Answer::BreaksOff(body()), any).await;
    assert!(
        matches!(result, Err(FetchError::BrokenOff { .. })),
        "{result:?}"
    );
    assert_eq!(requests, 3);
    let (result, _) = check(Answer::Stalls(body()), any).await;
    assert!(
        matches!(result, Err(FetchError::Stalled { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again() {
    let (result, requests) = check(Answer::Status(404), Expect::at_most(10)).await;
    assert!(result.unwrap_err().is_missing());
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn no_more_than_allowed_is_taken() {
    for answer in [Answer::Body(body()), Answer::Endless(body())] {
        let (result, requests) = check(answer, Expect::at_most(1_000_000)).await;
        assert!(
            matches!(result, Err(FetchError::TooLarge { .. })),
            "{result:?}"
        );
        assert_eq!(requests, 1);
    }
}

#[tokio::test]
async fn other_bytes_than_promised_are_refused() {
    let short = Expect {
        limit: 2_000_000,
        ..Expect::exactly(1_200_001, Sha256::of(&body()))
    };
    let (result, _) = check(Answer::Body(body()), short).await;
    assert!(matches!(result, Err(FetchError::Size { .. })), "{result:?}");
    let other = Expect::exactly(1_200_000, Sha256::of(b"other"));
    let (result, requests) = check(Answer::Body(body()), other).await;
    assert!(
        matches!(result, Err(FetchError::Digest { .. })),
        "{result:?}"
    );
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_server_that_is_down_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url: String = format!("http://{}/file", listener.local_addr().unwrap());
    drop(listener);
    let error = fetcher()
        .to_memory(&url.parse().unwrap(), 10)
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_dropped_download_leaves_nothing() {
    let server = Server::start().await;
    server.set("file", Answer::Endless(body()));
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("file");
    let url = server.url("file").parse().unwrap();
    let (fetcher, report) = (fetcher(), report());
    let begun = async {
        // Progress on disk shows that the download is under way.
        while std::fs::read_dir(directory.path())
            .unwrap()
            .next()
            .is_none()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = begun => {}
        result = fetcher.to_file(&url, &destination, Expect::at_most(u64::MAX), &report) => {
            panic!("an endless download ended: {result:?}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
