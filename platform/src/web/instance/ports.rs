//! Additional ports of the account's own instance: the open ports, and their addresses.

use axum::Json;
use axum::extract::State;
use berth_ground::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::list::ListView;
use crate::http::problem::HandlerResult;
use crate::instances::{Instance, MOST_PORTS, PortList};
use crate::web::extractors::OwnInstance;

/// The open ports, for the dashboard.
pub struct PortsView {
    /// The content of the form's field, and its validation message.
    pub typed: String,
    pub note: String,
    pub open: Vec<OpenPort>,
    /// The prefix of the addresses by path: `https://alice.example.com/_port/`.
    pub path: String,
}

/// An open port.
pub struct OpenPort {
    pub port: u16,
    /// The address by hostname; `None` where each additional hostname would use up a certificate of the weekly budget.
    pub url: Option<String>,
}

#[derive(Deserialize)]
pub struct PortsBody {
    ports: String,
}

/// The open ports of an instance.
#[must_use]
pub fn ports_view(app: &App, instance: &Instance) -> PortsView {
    let (hosts, ports) = (&app.config.hosts, instance.ports());
    // Every new hostname costs a certificate of the authority's weekly rate limit. Where that limit applies, ports are
    // offered by path, on a host that has a certificate already.
    let url =
        |port| (!app.certificates.are_counted()).then(|| hosts.virtual_host_of_port(&instance.handle, port).origin);
    PortsView {
        typed: ports.to_string(),
        note: String::new(),
        open: ports.iter().map(|port| OpenPort { port, url: url(port) }).collect(),
        path: format!("{}/_port/", hosts.instance_origin(&instance.handle)),
    }
}

/// `GET /api/instance/ports`
pub async fn show(State(app): State<App>, OwnInstance(instance): OwnInstance) -> Json<ListView<Value>> {
    Json(view(&app, &instance))
}

/// `PUT /api/instance/ports` with `{"ports": "3000, 8000-8003"}` replaces the set of open ports. Answers like the
/// GET.
pub async fn replace(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Json(asked): Json<PortsBody>,
) -> HandlerResult<Json<ListView<Value>>> {
    open(&app, &instance, &asked.ports).await?;
    Ok(Json(view(&app, &instance)))
}

/// Replaces the set of open ports.
///
/// # Errors
/// `Invalid` when the text is not a list of ports.
pub async fn open(app: &App, instance: &std::sync::Arc<Instance>, typed: &str) -> Result<()> {
    let ports = PortList::parse(typed).map_err(|error| Error::invalid("ports", error.to_string()))?;
    app.instances.set_ports(instance, &ports).await
}

fn view(app: &App, instance: &Instance) -> ListView<Value> {
    let open_ports = ports_view(app, instance);
    let port = |open: OpenPort| {
        let path_url = format!("{}{}/", open_ports.path, open.port);
        json!({ "port": open.port, "url": open.url, "path_url": path_url })
    };
    ListView::complete(open_ports.open.into_iter().map(port).collect(), MOST_PORTS)
}
