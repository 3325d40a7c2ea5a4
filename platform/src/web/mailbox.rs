//! One's instance's mailbox and alarms: which paths are open, what came, what was given up.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use super::alarms::AlarmRow;
use super::extractors::OwnInstance;
use crate::accounts::Session;
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::format::{Moment, grouped};
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::instances::Instance;
use crate::mailbox::{Counts, Ending, LetterId, LetterView, MOST_PATHS, State as Standing};
use crate::web::page_head::PageHead;

/// How many letters of each kind are listed: those that need somebody, and those that only show that it works.
const KEPT_LISTED: u64 = 50;
const DELIVERED_LISTED: u64 = 10;

#[derive(Template)]
#[template(path = "dashboard/mailbox.html")]
pub struct MailboxPage {
    pub head: PageHead,
    /// Stands before a path in an address.
    pub instance_origin: String,
    /// What was typed, and what is wrong with it.
    pub typed: String,
    pub note: String,
    pub paths: Vec<String>,
    pub most_paths: usize,
    pub may_open: bool,
    pub counts: Counts,
    pub kept_kib: String,
    pub kept: Vec<LetterRow>,
    pub delivered: Vec<LetterRow>,
    pub alarms: Vec<AlarmRow>,
}

/// One letter.
pub struct LetterRow {
    pub id: String,
    /// `POST /hooks/github`, or which alarm.
    pub what: String,
    pub lamp: &'static str,
    /// What came of it so far.
    pub came_of_it: String,
    /// When it is tried next, or else when it came or was done with.
    pub when: &'static str,
    pub at: Moment,
}

/// The mailbox in a few words, for the dashboard.
pub struct MailInWords {
    pub paths: usize,
    pub alarms: usize,
    pub counts: Counts,
    pub latest: Vec<LetterRow>,
}

/// Says how the mailbox is doing.
///
/// # Errors
/// When the database does not answer.
pub async fn in_words(app: &App, instance: &Instance) -> Result<MailInWords> {
    let (failed, delivered, alarms) = tokio::try_join!(
        app.mailbox.letters(instance.id, Standing::Failed, 3),
        app.mailbox.letters(instance.id, Standing::Delivered, 3),
        app.alarms.of(instance.id),
    )?;
    let latest = failed.iter().chain(&delivered).take(4).map(Into::into).collect();
    let (paths, counts) = (app.mailbox.paths(instance.id).len(), app.mailbox.counts(instance.id));
    Ok(MailInWords { paths, alarms: alarms.len(), counts, latest })
}

/// `GET /mailbox`
pub async fn show(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<Page<MailboxPage>> {
    Ok(Page(page(&app, &session, &instance, Typed::default(), String::new()).await?))
}

#[derive(Default, Deserialize)]
pub struct Typed {
    #[serde(default)]
    path: String,
    /// The checkbox: `yes`, or not there.
    #[serde(default)]
    unguessable: String,
}

/// `POST /mailbox/paths`
pub async fn open(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
    Form(typed): Form<Typed>,
) -> HandlerResult {
    let ending = if typed.unguessable == "yes" { Ending::Unguessable } else { Ending::AsItIs };
    match app.mailbox.open_path(instance.id, typed.path.trim(), ending).await {
        Ok(_) => Ok(Redirect::to("/mailbox").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = page(&app, &session, &instance, typed, problem.detail.clone()).await?;
            Ok(problem.with(Page(page)))
        }
    }
}

/// `POST /mailbox/paths/close`
pub async fn close(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Form(typed): Form<Typed>,
) -> HandlerResult<Redirect> {
    app.mailbox.close_path(instance.id, &typed.path).await?;
    Ok(Redirect::to("/mailbox"))
}

/// `POST /mailbox/letters/{id}/retry`
pub async fn retry(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<Redirect> {
    app.mailbox.retry(instance.id, letter(&id)?).await?;
    Ok(Redirect::to("/mailbox#letters"))
}

/// `POST /mailbox/letters/{id}/discard`
pub async fn discard(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<Redirect> {
    app.mailbox.discard(instance.id, letter(&id)?).await?;
    Ok(Redirect::to("/mailbox#letters"))
}

/// A letter's id as it stands in an address.
///
/// # Errors
/// `NotFound` for what is none.
pub fn letter(id: &str) -> Result<LetterId> {
    id.parse().map_err(|_| Error::NotFound)
}

async fn page(app: &App, session: &Session, instance: &Instance, typed: Typed, note: String) -> Result<MailboxPage> {
    let (waiting, failed, delivered, alarms) = tokio::try_join!(
        app.mailbox.letters(instance.id, Standing::Waiting, KEPT_LISTED),
        app.mailbox.letters(instance.id, Standing::Failed, KEPT_LISTED),
        app.mailbox.letters(instance.id, Standing::Delivered, DELIVERED_LISTED),
        app.alarms.of(instance.id),
    )?;
    let paths: Vec<String> = app.mailbox.paths(instance.id).into_iter().map(|open| open.path).collect();
    let counts = app.mailbox.counts(instance.id);
    Ok(MailboxPage {
        head: session.into(),
        instance_origin: app.config.hosts.instance_origin(&instance.handle),
        typed: typed.path,
        note,
        may_open: paths.len() < MOST_PATHS,
        paths,
        most_paths: MOST_PATHS,
        kept_kib: grouped(i64::try_from(counts.bytes.div_ceil(1024)).unwrap_or(i64::MAX)),
        counts,
        kept: failed.iter().chain(&waiting).map(Into::into).collect(),
        delivered: delivered.iter().map(Into::into).collect(),
        alarms: alarms.iter().map(Into::into).collect(),
    })
}

impl From<&LetterView> for LetterRow {
    fn from(letter: &LetterView) -> Self {
        let what = match (&letter.alarm, letter.path.as_str()) {
            (Some(alarm), "") => format!("Alarm {alarm}"),
            (Some(alarm), path) => format!("Alarm {alarm} to {path}"),
            (None, path) => format!("{} {path}", letter.method),
        };
        let answer = letter.answer.as_deref();
        let (lamp, came_of_it, when, at) = match (letter.state, letter.attempts) {
            (Standing::Waiting, 0) => ("moving", "not tried yet".to_owned(), "came", letter.arrived_at),
            (Standing::Waiting, attempts) => {
                let at = letter.try_at.unwrap_or(letter.arrived_at);
                ("moving", tried(attempts, answer), "again", at)
            }
            (Standing::Failed, attempts) => ("trouble", tried(attempts, answer), "given up", done(letter)),
            (Standing::Delivered, 1) => ("awake", taken(answer), "delivered", done(letter)),
            (Standing::Delivered, attempts) => {
                ("awake", format!("{}, the {attempts}. time", taken(answer)), "delivered", done(letter))
            }
        };
        Self { id: letter.id.to_string(), what, lamp, came_of_it, when, at: Moment(at) }
    }
}

fn done(letter: &LetterView) -> crate::clock::Timestamp {
    letter.done_at.unwrap_or(letter.arrived_at)
}

fn tried(attempts: i64, answer: Option<&str>) -> String {
    let times = if attempts == 1 { "tried once".to_owned() } else { format!("tried {attempts} times") };
    match answer {
        Some(answer) => format!("{times}, last: {answer}"),
        None => format!("{times}, no answer known"),
    }
}

fn taken(answer: Option<&str>) -> String {
    match answer {
        Some("woke") | None => "it woke".into(),
        Some(status) => format!("taken with {status}"),
    }
}
