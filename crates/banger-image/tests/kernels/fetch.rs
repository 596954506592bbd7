//! Downloads: bounded, retried, whole or not there at all.

use banger_image::digest::Sha256;
use banger_image::fetch::{Expect, FetchError, Fetched};

use crate::support::{fetcher, report};
use crate::web::{Answer, Server};

/// Fetches a file that is answered for like this into a directory; what is in the directory
/// afterwards is checked.
async fn check(answers: &[Answer], expect: Expect) -> (Result<Fetched, FetchError>, usize) {
    let server = Server::start().await;
    server.put("file", body());
    server.script("file", answers);
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
    (result, server.requests("file").len())
}

fn body() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn busy() -> Answer {
    Answer::Status(503, vec![])
}

#[tokio::test]
async fn a_whole_file_appears_with_its_digest() {
    let expect = Expect::exactly(1_200_000, Sha256::of(&body()));
    let (result, requests) = check(&[Answer::Content], expect).await;
    assert_eq!(result.unwrap().size, 1_200_000);
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn passing_trouble_is_tried_again() {
    let expect = Expect::exactly(1_200_000, Sha256::of(&body()));
    let (result, requests) = check(&[busy(), busy(), Answer::Content], expect).await;
    result.unwrap();
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn what_breaks_off_goes_on_where_it_was() {
    let expect = Expect::exactly(1_200_000, Sha256::of(&body()));
    let third = Answer::BreaksOff(400_000);
    let whole = [third.clone(), third, Answer::Content];
    check(&whole, expect).await.0.unwrap();
    // A server that knows no ranges sends all of it again.
    let again = [Answer::BreaksOff(400_000), Answer::WithoutRange];
    check(&again, expect).await.0.unwrap();
    // What is not known by its digest might be another file by now.
    let server = Server::start().await;
    server.put("file", body());
    server.script("file", &[Answer::BreaksOff(9), Answer::Content]);
    let url = server.url("file").parse().unwrap();
    let fetched = fetcher().to_memory(&url, 2_000_000).await.unwrap();
    assert!(fetched == body());
    let ranges = server.requests("file").into_iter().map(|asked| asked.range);
    assert_eq!(ranges.collect::<Vec<_>>(), [None, None]);
}

#[tokio::test]
async fn lasting_trouble_ends() {
    let any = Expect::at_most(10_000_000);
    let (result, requests) = check(&[busy()], any).await;
    assert!(matches!(result, Err(FetchError::Status { .. })));
    assert_eq!(requests, 3);
    let (result, requests) = check(&[Answer::BreaksOff(9)], any).await;
    assert!(
        matches!(result, Err(FetchError::BrokenOff { .. })),
        "{result:?}"
    );
    assert_eq!(requests, 3);
    let (result, _) = check(&[Answer::Stalls(9)], any).await;
    assert!(
        matches!(result, Err(FetchError::Stalled { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again() {
    let (result, requests) = check(&[Answer::Status(404, vec![])], Expect::at_most(10)).await;
    assert!(result.unwrap_err().is_missing());
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn no_more_than_allowed_is_taken() {
    for answer in [Answer::Content, Answer::Endless(body())] {
        let (result, requests) = check(&[answer], Expect::at_most(1_000_000)).await;
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
    let (result, _) = check(&[Answer::Content], short).await;
    assert!(matches!(result, Err(FetchError::Size { .. })), "{result:?}");
    let other = Expect::exactly(1_200_000, Sha256::of(b"other"));
    let (result, requests) = check(&[Answer::Content], other).await;
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
    server.script("file", &[Answer::Endless(body())]);
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
