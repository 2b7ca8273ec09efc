//! The world of the model: a process, the folder and the database that outlive it, and the final checks.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use tempfile::TempDir;

use super::database::{Database, Flaw};
use super::process::{Process, Progress};
use super::schedule::{Action, Visitor};
use crate::config;
use crate::ids::SessionToken;
use crate::writer::kept::Confirmed;
use crate::writer::spool::Directory;
use crate::writer::spool::append::Append;
use crate::writer::spool::encode::StoredViews;
use crate::writer::spool::faults::Fault as DiskFault;
use crate::writer::spool::letters::LetterAction;
use crate::writer::testing::{recorded, view};
use crate::writer::unresolved::{UnresolvedView, VisitorRef};

/// Steps of a healthy system after which everything must be where it belongs.
const ENOUGH: usize = 500;
/// Until what a process had open is closed; and between two looks.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// In every token of the model.
const TOKEN: &str = "token-that-must-go";

/// What became of a view's way into the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    /// It has a visitor, and its commit was confirmed.
    Accepted,
    /// The same, but the commit was cut off.
    Perhaps,
    /// It has no visitor, or the visitor cannot be identified.
    Nobodys,
}

pub(super) struct World {
    home: TempDir,
    directory: Directory,
    database: Arc<Database>,
    views: BTreeMap<String, Fact>,
    /// None only while one takes the place of another.
    process: Option<Process>,
}

impl World {
    pub(super) async fn new(flaw: Option<Flaw>) -> Self {
        let home = tempfile::tempdir_in(memory()).expect("a folder");
        let directory = Directory::prepare(&config::Spool {
            dir: home.path().join("spool"),
            max_bytes: ByteSize::gib(1),
            // Only processes end here, not machines.
            fsync: false,
            ..config::Spool::default()
        })
        .expect("a folder");
        let database = Arc::new(Database {
            flaw,
            ..Database::default()
        });
        let process = Some(Process::start(&directory, &database).await);
        Self {
            home,
            directory,
            database,
            views: BTreeMap::new(),
            process,
        }
    }

    pub(super) async fn act(&mut self, action: &Action) {
        self.carry_out(action).await;
        self.note_what_was_given_up();
    }

    fn note_what_was_given_up(&mut self) {
        let process = self.process();
        let mut gave_up = std::mem::take(&mut process.gave_up);
        for spool in process.spools() {
            gave_up |= spool.was_given_up();
        }
        // What a disk that takes nothing costs is told, and is another matter.
        if gave_up {
            self.database.state().keep_all();
        }
    }

    async fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Record(count) => {
                let pages: Vec<String> = (0..*count).map(|_| self.page(Fact::Accepted)).collect();
                let views = pages.iter().map(|page| recorded(page)).collect();
                self.append(&[StoredViews::Recorded(views)]).await;
            }
            Action::RecordUnresolved(visitor) => self.append_unresolved(*visitor).await,
            Action::RecordCutOff { count, awaits } => self.append_cut_off(*count, *awaits).await,
            Action::Faults(faults) => self.database.state().faults.extend(faults.iter().copied()),
            Action::DiskFails(faults) => self.fail_disk(faults).await,
            Action::Refuse { view, refused } => {
                let page = self.views.keys().nth(*view);
                set(&mut self.database.state().refused, page, *refused);
            }
            Action::Lock { view, locked } => {
                let page = self.views.keys().nth(*view);
                set(&mut self.database.state().locked, page, *locked);
            }
            Action::Wait => {
                self.database.state().keep_all();
                self.process().wait();
                if !cut_off(1_000, self.process().confirm()).await {
                    self.crash().await;
                }
            }
            Action::LoseCommits(transactions) => {
                self.process().own.mend();
                self.database.state().lose(*transactions);
            }
            // One that hangs is cut off, too: by the end of the process.
            Action::Step => {
                if !cut_off(1_000, self.process().step()).await {
                    self.crash().await;
                }
            }
            Action::StepCutOff(awaits) => {
                cut_off(*awaits, self.process().step()).await;
                self.crash().await;
            }
            Action::Crash => self.crash().await,
            Action::Restart => self.restart().await,
            Action::RetryLetters => {
                let decided = self.directory.decide(LetterAction::Retry, None).await;
                decided.expect("they are written");
            }
        }
    }

    async fn append_unresolved(&mut self, visitor: Visitor) {
        let (fact, who) = match visitor {
            Visitor::Somebody => (Fact::Accepted, "31"),
            Visitor::Nobody => (Fact::Nobodys, "nobody"),
            Visitor::Unreadable => (Fact::Nobodys, "unreadable"),
        };
        let view = UnresolvedView {
            view: view(&self.page(fact)),
            whose: VisitorRef::Token(SessionToken::new(format!("{who}-{TOKEN}"))),
        };
        self.append(&[StoredViews::Unresolved(vec![view])]).await;
    }

    /// The disk fails at these commits. Such a disk costs what is kept, so it does not fail before a loss was noticed.
    async fn fail_disk(&mut self, faults: &[Option<DiskFault>]) {
        let other_faults = std::mem::take(&mut self.database.state().faults);
        for spool in self.process().spools() {
            self.process()
                .drain
                .confirm_all(&spool)
                .await
                .expect("it can be read");
        }
        self.database.state().faults = other_faults;
        self.process().own.fail_commits(faults.iter().copied());
    }

    /// A proper end, and another process. What is asked for at the end is not asked for again.
    async fn restart(&mut self) {
        self.database.state().keep_all();
        for spool in self.process().spools() {
            let mut confirmed = false;
            let drain = &self.process().drain;
            let asked = async {
                confirmed = matches!(drain.confirm_all(&spool).await, Ok(Confirmed::All));
            };
            cut_off(1_000, asked).await;
            if confirmed {
                spool.give_up_kept();
            }
            spool.close().await;
        }
        self.crash().await;
    }

    /// As the appender does it: tried until it is there, and between two tries rows may be applied.
    async fn append(&mut self, bodies: &[StoredViews]) {
        self.plant();
        let mut append = Append::new(bodies.to_vec());
        while self.process().own.append(&mut append).await.is_err() {
            if self.database.flaw == Some(Flaw::AppendsAnew) {
                append = Append::new(bodies.to_vec());
            }
            if !cut_off(1_000, self.process().step()).await {
                // It hangs: what it was at is given up by the end of its connection.
                self.database.state().faults.clear();
            }
        }
    }

    /// As the appender does it before its process ends in the middle.
    async fn append_cut_off(&mut self, count: usize, awaits: usize) {
        self.plant();
        let pages: Vec<String> = (0..count).map(|_| self.page(Fact::Perhaps)).collect();
        let views = pages.iter().map(|page| recorded(page)).collect();
        let mut append = Append::new(vec![StoredViews::Recorded(views)]);
        cut_off(awaits, self.process().own.append(&mut append)).await;
    }

    /// Plants a mistake in the own spool.
    fn plant(&mut self) {
        if self.database.flaw == Some(Flaw::HandsOverUncommitted) {
            self.process().own.hand_over_early();
        }
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("one runs")
    }

    async fn crash(&mut self) {
        self.note_what_was_given_up();
        // Its locks go with it.
        self.process = None;
        until_closed(self.home.path()).await;
        self.process = Some(Process::start(&self.directory, &self.database).await);
    }

    /// A page without earlier views.
    fn page(&mut self, fact: Fact) -> String {
        let page = format!("/{:04}", self.views.len());
        self.views.insert(page.clone(), fact);
        page
    }

    /// All faults are over, and time passes.
    pub(super) async fn settle(&mut self) {
        self.database.state().faults.clear();
        self.database.state().locked.clear();
        self.database.state().keep_all();
        self.process().own.mend();
        self.process().housekeeping().await;
        for _ in 0..ENOUGH {
            self.process().wait();
            self.process().confirm().await;
            let progress = self.process().step().await;
            let waiting = self.process().own.waiting().views;
            if progress == Progress::Nothing && waiting == 0 && self.process().adopted.is_empty() {
                return;
            }
            if progress < Progress::Made {
                // Others are seen meanwhile, so that what is refused can be told from a database that refuses all.
                let others = [StoredViews::Recorded(vec![recorded(&self.page(Fact::Accepted))])];
                self.append(&others).await;
                self.process().wait();
            }
        }
    }

    /// What must hold.
    pub(super) async fn verify(&self) -> Result<(), String> {
        let letters = self.directory.dead_letters().await.expect("they can be read");
        let mut buried: BTreeMap<String, usize> = BTreeMap::new();
        for letter in letters {
            let page = letter.view.expect("whole").view.url;
            *buried.entry(page).or_default() += 1;
        }
        let state = self.database.state();
        for (page, fact) in &self.views {
            let (written, letters) = (
                state.tables.events.get(page).copied().unwrap_or(0),
                buried.get(page).copied().unwrap_or(0),
            );
            let holds = match fact {
                Fact::Nobodys => (written, letters) == (0, 0),
                // A letter was refused once, and nobody has tried it again since.
                Fact::Accepted => written + letters == 1,
                Fact::Perhaps => written + letters <= 1,
            };
            if !holds {
                return Err(format!(
                    "{page} {fact:?}: written {written} times, {letters} dead letters"
                ));
            }
        }
        let rows = i64::try_from(state.tables.events.values().sum::<usize>()).expect("few");
        let pages: i64 = state.tables.pages.values().sum();
        if rows != pages {
            return Err(format!("{rows} rows, but pages_visited is {pages}"));
        }
        let kept = self
            .process
            .as_ref()
            .map_or(0, |process| process.own.kept_bytes());
        if kept > 0 {
            return Err(format!("{kept} bytes are kept for ever"));
        }
        let waiting = self
            .process
            .as_ref()
            .map(|process| process.own.waiting())
            .unwrap_or_default();
        if waiting.views > 0 {
            return Err(format!("{waiting:?} never left the spool"));
        }
        self.verify_disk()
    }

    /// No token is left.
    fn verify_disk(&self) -> Result<(), String> {
        let folder = std::fs::read_dir(self.home.path().join("spool")).expect("a folder");
        for entry in folder {
            let path = entry.expect("a file").path();
            let bytes = std::fs::read(&path).expect("readable");
            let has_token = bytes
                .windows(TOKEN.len())
                .any(|window| window == TOKEN.as_bytes());
            if has_token {
                return Err(format!("a token is left in {}", path.display()));
            }
        }
        Ok(())
    }
}

/// Waits until nothing in a folder is open: what a process has begun is over at its end, but here the threads of SQLite go on.
async fn until_closed(folder: &Path) {
    let open_file = || {
        let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        open.filter_map(|file| std::fs::read_link(file.path()).ok())
            .find(|path| path.starts_with(folder))
    };
    let end = Instant::now() + LONGEST_WAIT;
    while let Some(path) = open_file() {
        assert!(Instant::now() < end, "{} stays open", path.display());
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// A folder in memory, where there is one: processes end here, not machines.
fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.into()
    } else {
        std::env::temp_dir()
    }
}

/// Puts a page into a set, or takes it out.
fn set(pages: &mut HashSet<String>, page: Option<&String>, is_in: bool) {
    if let Some(page) = page {
        if is_in {
            pages.insert(page.clone());
        } else {
            pages.remove(page);
        }
    }
}

/// Polls a future so many times, then drops it; says whether it came to its end.
async fn cut_off<T>(polls: usize, work: impl Future<Output = T>) -> bool {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        left -= 1;
        if left == 0 {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}
