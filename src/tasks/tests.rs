//! Tests of supervised tasks: new starts after failures, and the end of the process.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::*;

fn tasks() -> (Tasks, Arc<Metrics>, Shutdown) {
    let (metrics, process) = (Arc::<Metrics>::default(), Shutdown::new());
    let tasks = Tasks::new(metrics.clone(), &Handle::current(), process.clone());
    tasks.begin();
    (tasks, metrics, process)
}

fn failures(metrics: &Metrics, task: Task) -> u64 {
    metrics.failures[task].get()
}

#[tokio::test(start_paused = true)]
async fn t3_a_task_that_panics_or_ends_is_started_again_counted_and_told() {
    let (tasks, metrics, process) = tasks();
    let starts = Arc::new(AtomicUsize::new(0));
    let (works, mut working) = mpsc::channel(1);
    let count = Arc::clone(&starts);
    tasks.keep(Task::Sweeps, move || {
        let start = count.fetch_add(1, Ordering::Relaxed);
        let works = works.clone();
        async move {
            match start {
                0 => panic!("on purpose"),
                1 => {}
                _ => {
                    let _ = works.send(()).await;
                    std::future::pending::<()>().await;
                }
            }
        }
    });
    working.recv().await.unwrap();
    assert_eq!(starts.load(Ordering::Relaxed), 3);
    assert_eq!(failures(&metrics, Task::Sweeps), 2);
    assert_eq!(failures(&metrics, Task::Admin), 0);
    let told = tasks.degraded();
    assert!(
        matches!(&told[..], [line] if line.contains("sweeps") && line.contains("2 times")),
        "{told:?}"
    );
    sleep(TOLD_FOR).await;
    assert_eq!(tasks.degraded(), [""; 0]);
    assert!(!process.has_started());
}

#[tokio::test(start_paused = true)]
async fn t3_a_task_that_ends_before_the_process_has_started_fails_once_it_has() {
    let metrics = Arc::<Metrics>::default();
    let tasks = Tasks::new(metrics.clone(), &Handle::current(), Shutdown::new());
    let (works, mut working) = mpsc::channel(2);
    let mut ends = true;
    let task = tasks.keep(Task::Sweeps, move || {
        let (works, ends) = (works.clone(), std::mem::take(&mut ends));
        async move {
            works.send(()).await.unwrap();
            if !ends {
                std::future::pending::<()>().await;
            }
        }
    });
    working.recv().await.unwrap();
    sleep(TOLD_FOR).await;
    assert_eq!(failures(&metrics, Task::Sweeps), 0);
    assert!(!task.is_finished());
    tasks.begin();
    working.recv().await.unwrap();
    assert_eq!(failures(&metrics, Task::Sweeps), 1);
}

#[tokio::test(start_paused = true)]
async fn t3_a_task_that_fails_all_the_time_is_started_less_and_less_often() {
    let (tasks, metrics, _) = tasks();
    tasks.keep(Task::Sweeps, || async { panic!("on purpose") });
    sleep(Duration::from_secs(60 * 60)).await;
    let failures = failures(&metrics, Task::Sweeps);
    // The pauses of an hour: a few short ones, then 15 to 30 s each.
    assert!((120..260).contains(&failures), "{failures}");
}

#[tokio::test(start_paused = true)]
async fn t3_a_worker_keeps_its_queue_over_its_failures() {
    let (tasks, metrics, _) = tasks();
    let (queue, worker) = mpsc::channel(8);
    let (done, mut results) = mpsc::channel(8);
    let handle = tasks.keep_worker(Task::Appender, (worker, done), |(queue, done)| {
        async move {
            while let Some(number) = queue.recv().await {
                assert_ne!(number, 2, "on purpose");
                let _ = done.send(number).await;
            }
        }
        .boxed()
    });
    for number in 1..=3 {
        queue.send(number).await.unwrap();
    }
    assert_eq!((results.recv().await, results.recv().await), (Some(1), Some(3)));
    assert_eq!(failures(&metrics, Task::Appender), 1);
    tasks.end();
    drop(queue);
    handle.await.unwrap();
    assert_eq!(failures(&metrics, Task::Appender), 1);
}

#[tokio::test(start_paused = true)]
async fn t3_what_cannot_be_started_again_ends_the_process_and_says_why() {
    let (tasks, metrics, process) = tasks();
    assert_eq!(tasks.lost(), None);
    tasks.lose(Task::Site);
    assert!(process.has_started());
    assert_eq!(tasks.lost(), Some(Task::Site));
    assert_eq!(failures(&metrics, Task::Site), 1);
}

#[tokio::test]
async fn t3_an_end_in_order_is_no_failure() {
    let (tasks, metrics, process) = tasks();
    let ending = tasks.clone();
    let handle = tasks.keep(Task::Reloader, move || {
        let ending = ending.clone();
        async move { ending.0.ending.started().await }
    });
    tasks.end();
    handle.await.unwrap();
    tasks.lose(Task::Site);
    assert_eq!(
        failures(&metrics, Task::Reloader) + failures(&metrics, Task::Site),
        0
    );
    assert!(!process.has_started() && tasks.lost().is_none());
}

#[test]
fn t3_the_manual_lists_every_task() {
    let manual = include_str!("../../deploy/README.md");
    for task in Task::ALL {
        let row = format!("| `{}` |", task.label());
        assert!(
            manual.lines().any(|line| line.starts_with(&row)),
            "deploy/README.md lacks {row}"
        );
    }
}
