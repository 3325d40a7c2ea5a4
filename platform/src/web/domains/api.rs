//! Custom domains as JSON.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page;
use crate::app::App;
use crate::domains::Domain;
use crate::http::list::ListView;
use crate::http::problem::HandlerResult;
use crate::instances::Instance;
use crate::web::extractors::OwnInstance;

/// `GET /api/domains`
pub async fn list(State(app): State<App>, OwnInstance(instance): OwnInstance) -> Json<ListView<Value>> {
    let all = app.domains.of(instance.id).iter().map(|domain| view(&app, &instance, domain)).collect();
    Json(ListView::complete(all, app.domains.per_account() as usize))
}

#[derive(Deserialize)]
pub struct DomainBody {
    name: String,
}

/// `POST /api/domains` with `{"name"}`: 201 with the domain and the DNS record that proves it.
pub async fn claim(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Json(asked): Json<DomainBody>,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    let domain = app.domains.claim(&instance, &asked.name).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &instance, &domain))))
}

/// `POST /api/domains/{id}/check`: looks the proof up in DNS now and returns the domain's state.
pub async fn check(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<Json<Value>> {
    let domain = app.domains.check(&instance, page::domain_id(&id)?).await?;
    Ok(Json(view(&app, &instance, &domain)))
}

/// `DELETE /api/domains/{id}`
pub async fn remove(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.domains.remove(&instance, page::domain_id(&id)?, instance.handle.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(app: &App, instance: &Instance, domain: &Domain) -> Value {
    let mut view = json!(domain);
    view["url"] = json!(app.config.hosts.virtual_host_of_domain(&domain.name, &instance.handle, instance.id).origin);
    view["txt_name"] = json!(domain.proof_name());
    view["alias_of"] = json!(app.config.hosts.instance_host(&instance.handle));
    view
}
