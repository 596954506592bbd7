//! The wire's two ends against each other, over an in-memory channel with hardly any room.

use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

async fn send(io: &mut (impl AsyncWrite + Unpin), payload: &[u8], chunk: usize) {
    for chunk in payload.chunks(chunk) {
        io.write_all(chunk).await.unwrap();
        io.flush().await.unwrap();
    }
}

async fn receive(io: &mut (impl AsyncRead + Unpin), len: usize) -> Vec<u8> {
    let mut payload = vec![0; len];
    io.read_exact(&mut payload).await.unwrap();
    payload
}

/// Sends and receives at once: each waits for the other when the channel has little room.
async fn exchange(
    io: impl AsyncRead + AsyncWrite,
    payload: &[u8],
    expected: usize,
    chunk: usize,
) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let send = async {
        writer.flush().await.unwrap();
        send(&mut writer, payload, chunk).await;
    };
    tokio::join!(send, receive(&mut reader, expected)).1
}

/// Talks in both directions at once and returns what arrived at (host, agent).
async fn talk(
    host: &mut Wire<DuplexStream>,
    agent: &mut Listener<DuplexStream>,
    to_agent: &[u8],
    to_host: &[u8],
    chunk: usize,
) -> (Vec<u8>, Vec<u8>) {
    let host = exchange(host, to_agent, to_host.len(), chunk);
    let agent = async {
        exchange(
            agent.accept().await.unwrap(),
            to_host,
            to_agent.len(),
            chunk,
        )
        .await
    };
    tokio::join!(host, agent)
}

fn marked() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        (0..=stuffing::PREFIX.len()).prop_map(|len| stuffing::PREFIX[..len].to_vec()),
    ];
    // Never empty: who waits for nothing does not read the reset, and without room its sender waits for ever.
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| [&pieces.concat()[..], b"."].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn payload_crosses_both_ways_through_any_channel(
        a in marked(), b in marked(), room in 1_usize..80, chunk in 1_usize..50,
    ) {
        run(async {
            let (host, agent) = duplex(room);
            let mut host = Wire::dial(host).unwrap();
            let mut agent = Listener::new(agent);
            assert_eq!(talk(&mut host, &mut agent, &a, &b, chunk).await, (b, a));
        });
    }

    #[test]
    fn a_new_host_takes_over_amid_old_data(
        old in marked(), garbage in marked(), a in marked(), b in marked(), chunk in 1_usize..50,
    ) {
        run(async {
            let (mut host, agent) = duplex(1 << 20);
            let mut agent = Listener::new(agent);
            let mut first = Wire::dial(&mut host).unwrap();
            send(&mut first, &old, chunk).await;
            first.flush().await.unwrap();
            drop(first);
            {
                let mut session = agent.accept().await.unwrap();
                send(&mut session, &old, chunk).await;
                session.write_all(b"never flushed").await.unwrap();
                receive(&mut session, old.len()).await;
            }
            // What a host that dies in the middle of a write leaves behind.
            host.write_all(&garbage).await.unwrap();
            let mut second = Wire::dial(host).unwrap();
            assert_eq!(talk(&mut second, &mut agent, &a, &b, chunk).await, (b, a));
        });
    }
}

#[test]
fn a_reset_ends_the_running_session_with_an_error() {
    run(async {
        let (mut host, agent) = duplex(1 << 16);
        let mut agent = Listener::new(agent);
        Wire::dial(&mut host).unwrap().flush().await.unwrap();
        let mut session = agent.accept().await.unwrap();
        let mut second = Wire::dial(host).unwrap();
        second.flush().await.unwrap();
        let error = session.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(session.write_u8(0).await.is_err());
        let mut session = agent.accept().await.unwrap();
        session.write_all(b"hello").await.unwrap();
        session.flush().await.unwrap();
        assert_eq!(receive(&mut second, 5).await, b"hello");
    });
}

#[test]
fn a_reset_that_waits_in_the_channel_is_answered() {
    run(async {
        let (host, agent) = duplex(1 << 16);
        let mut host = Wire::dial(host).unwrap();
        host.write_all(b"early").await.unwrap();
        host.flush().await.unwrap();
        let mut agent = Listener::new(agent);
        let mut session = agent.accept().await.unwrap();
        assert_eq!(receive(&mut session, 5).await, b"early");
    });
}

#[test]
fn a_channel_that_ends_ends_the_session() {
    run(async {
        let (host, agent) = duplex(1 << 16);
        let mut host = Wire::dial(host).unwrap();
        host.flush().await.unwrap();
        let mut agent = Listener::new(agent);
        let mut session = agent.accept().await.unwrap();
        drop(host);
        assert_eq!(
            session.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            agent.accept().await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    });
}
