//! Operations end in one way each, and that way is known afterwards.

use tempfile::TempDir;

use super::*;
use crate::testing::{World, clock, create, is_over, request, runtime, silent, soon, time_passes};

fn open(directory: &TempDir) -> Arc<Operations> {
    let store = Arc::new(Store::open(&directory.path().join("state.db")).unwrap());
    Arc::new(Operations::open(store, clock).unwrap())
}

fn run<T: Send + 'static>(
    operations: &Arc<Operations>,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> tokio::task::JoinHandle<Result<T, Error>> {
    let operations = operations.clone();
    tokio::spawn(async move {
        let kind = OperationKind::PullImage;
        let work = |progress: SharedProgress| {
            progress.report(Step {
                stage: "fetch",
                detail: "a layer".to_owned(),
                done: 3,
                total: Some(7),
            });
            work
        };
        let begun = operations.begin(kind, "alpine")?;
        begun.run(silent(), work).await
    })
}

/// The only operation.
fn only(operations: &Operations) -> OperationRow {
    let [row] = operations.list().unwrap().try_into().expect("there is one");
    row
}

#[test]
fn an_operation_is_seen_while_it_goes_on_and_remembered_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let operations = open(&directory);
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let work = run(&operations, async move {
            wait.await.unwrap();
            Ok(5)
        });
        time_passes(std::time::Duration::from_secs(1)).await;
        let row = only(&operations);
        assert_eq!((row.verdict, row.stage.as_deref()), (None, Some("fetch")));
        assert_eq!(row.progress.unwrap().done, 3);
        go.send(()).unwrap();
        assert_eq!(work.await.unwrap().unwrap(), 5);
        let ended = soon("it ends", operations.wait(row.id)).await.unwrap();
        assert_eq!((ended.verdict, ended.progress), (Some(Verdict::Done), None));
    });
    assert_eq!(only(&open(&directory)).verdict, Some(Verdict::Done));
}

#[test]
fn an_operation_ends_in_one_way() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let operations = open(&directory);
        let failed = run(&operations, async { Err::<(), _>(Error::Ending) });
        failed.await.unwrap().unwrap_err();
        let cancelled = run(&operations, std::future::pending::<Result<(), Error>>());
        let left = run(&operations, std::future::pending::<Result<(), Error>>());
        time_passes(std::time::Duration::from_secs(1)).await;
        let row = soon("it ends", operations.cancel(OperationId(2)))
            .await
            .unwrap();
        assert_eq!(row.verdict, Some(Verdict::Cancelled));
        let error = cancelled.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled { id: OperationId(2) }));
        left.abort();
        let row = soon("it ends", operations.wait(OperationId(3)))
            .await
            .unwrap();
        assert_eq!(row.verdict, Some(Verdict::Cancelled));
        assert_eq!(row.error.as_deref(), Some("whoever asked for it went away"));
        let rows = operations.list().unwrap();
        assert_eq!(rows[0].verdict, Some(Verdict::Failed));
        // What has ended stays what it is.
        let again = operations.cancel(OperationId(1)).await.unwrap();
        assert_eq!(again.verdict, Some(Verdict::Failed));
        let unknown = operations.cancel(OperationId(9)).await.unwrap_err();
        assert!(matches!(unknown, Error::NotFound { .. }));
    });
}

#[test]
fn what_nobody_waits_for_is_cut_off_and_not_cancelled_when_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let operations = open(&directory);
    let begin = || {
        operations
            .begin(OperationKind::PullImage, "alpine")
            .unwrap()
    };
    let (waited_for, detached) = (begin(), begin());
    operations.detach(detached.id());
    drop((waited_for, detached));
    let verdicts: Vec<_> = operations.list().unwrap();
    let verdicts: Vec<_> = verdicts.into_iter().map(|row| row.verdict).collect();
    assert_eq!(verdicts, [Some(Verdict::Cancelled), Some(Verdict::CutOff)]);
}

#[test]
fn what_goes_on_when_the_daemon_ends_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.db")).unwrap();
    store
        .begin_operation(OperationKind::CreateVm, "web", 1)
        .unwrap();
    drop(store);
    let row = only(&open(&directory));
    assert_eq!(
        (row.verdict, row.ended_at),
        (Some(Verdict::CutOff), Some(clock()))
    );
}

#[test]
fn a_creation_that_is_cancelled_leaves_nothing() {
    use crate::testing::{Act, Connect};
    let world = World::new();
    world.host.script(|script| script.connect = Connect::Hangs);
    world.life(async |engine| {
        let engine = Arc::new(engine);
        let creation = tokio::spawn({
            let engine = engine.clone();
            async move {
                let create = |progress| engine.create(request("web", true, false), progress);
                let begun = engine.operations().begin(OperationKind::CreateVm, "web")?;
                begun.run(silent(), create).await
            }
        });
        world.host.asked(Act::Connect, 1).await;
        let vm = engine.find("web").unwrap();
        let id = only(engine.operations()).id;
        engine.operations().cancel(id).await.unwrap();
        assert!(matches!(
            creation.await.unwrap(),
            Err(Error::Cancelled { .. })
        ));
        is_over(&vm).await;
        world
            .host
            .script(|script| script.connect = Connect::Answers);
        create(&engine, "web", true, false)
            .await
            .delete(true)
            .await
            .unwrap();
    });
    world.is_empty();
}
