//! Further ports of one's instance: which are open, and where they are reached.

use axum::Json;
use axum::extract::{Form, State};
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;
use serde_json::{Value, json};

use super::dashboard;
use super::extractors::Mine;
use crate::accounts::Session;
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};
use crate::instances::{Instance, MOST_PORTS, Ports};

/// The ports in a few words, for the dashboard.
pub struct PortsInWords {
    /// What stands in the field, and what is wrong with it.
    pub typed: String,
    pub note: String,
    pub open: Vec<OpenPort>,
    /// Where those below a path begin: `https://alice.example.com/_port/`.
    pub path: String,
}

/// One that is open.
pub struct OpenPort {
    pub port: u16,
    /// Its own origin; `None` where that would take a certificate that is counted.
    pub url: Option<String>,
}

#[derive(Deserialize)]
pub struct Typed {
    #[serde(default)]
    ports: String,
}

#[derive(Deserialize)]
pub struct Asked {
    ports: String,
}

/// Says which ports are open.
#[must_use]
pub fn in_words(app: &App, instance: &Instance) -> PortsInWords {
    let (hosts, ports) = (&app.config.hosts, instance.ports());
    let url = |port| (!app.certificates.are_counted()).then(|| hosts.entrance_of_port(&instance.handle, port).origin);
    PortsInWords {
        typed: ports.to_string(),
        note: String::new(),
        open: ports.iter().map(|port| OpenPort { port, url: url(port) }).collect(),
        path: format!("{}/_port/", hosts.instance_origin(&instance.handle)),
    }
}

/// `POST /instance/ports`
pub async fn set(State(app): State<App>, session: Session, Mine(instance): Mine, Form(typed): Form<Typed>) -> Answer {
    match open(&app, &instance, &typed.ports).await {
        Ok(()) => Ok(Redirect::to("/#ports").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let ports = PortsInWords { typed: typed.ports, note: problem.detail.clone(), ..in_words(&app, &instance) };
            let page = dashboard::page(&app, &session, &instance, ports).await?;
            Ok(problem.with(Page(page)))
        }
    }
}

/// `GET /api/instance/ports`
pub async fn show(State(app): State<App>, Mine(instance): Mine) -> Json<Value> {
    Json(view(&app, &instance))
}

/// `POST /api/instance/ports` with `{"ports": "3000, 8000-8003"}`: these and no others. Answers as the GET does.
pub async fn replace(State(app): State<App>, Mine(instance): Mine, Json(asked): Json<Asked>) -> Answer<Json<Value>> {
    open(&app, &instance, &asked.ports).await?;
    Ok(Json(view(&app, &instance)))
}

async fn open(app: &App, instance: &std::sync::Arc<Instance>, typed: &str) -> Result<()> {
    let ports = Ports::parse(typed).map_err(|error| Error::invalid("ports", error.to_string()))?;
    app.instances.set_ports(instance, &ports).await
}

fn view(app: &App, instance: &Instance) -> Value {
    let words = in_words(app, instance);
    let ports: Vec<Value> = words
        .open
        .iter()
        .map(|open| json!({ "port": open.port, "url": open.url, "path_url": format!("{}{}/", words.path, open.port) }))
        .collect();
    json!({ "ports": ports, "most": MOST_PORTS })
}
