//! The domains by which one's instance is entered as well, for programs, in JSON.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::domains;
use super::extractors::Mine;
use crate::app::App;
use crate::domains::Domain;
use crate::http::problem::Answer;
use crate::instances::Instance;

/// `GET /api/domains`
pub async fn list(State(app): State<App>, Mine(instance): Mine) -> Json<Value> {
    let all: Vec<Value> = app.domains.of(instance.id).iter().map(|domain| view(&app, &instance, domain)).collect();
    Json(json!({ "domains": all, "most": app.domains.per_account() }))
}

#[derive(Deserialize)]
pub struct Asked {
    name: String,
}

/// `POST /api/domains` with `{"name"}`: 201, and what to write into DNS.
pub async fn claim(
    State(app): State<App>,
    Mine(instance): Mine,
    Json(asked): Json<Asked>,
) -> Answer<(StatusCode, Json<Value>)> {
    let domain = app.domains.claim(&instance, &asked.name).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &instance, &domain))))
}

/// `POST /api/domains/{id}/check`: how it stands, once DNS shows the proof.
pub async fn check(State(app): State<App>, Mine(instance): Mine, Path(id): Path<String>) -> Answer<Json<Value>> {
    let domain = app.domains.check(&instance, domains::domain_id(&id)?).await?;
    Ok(Json(view(&app, &instance, &domain)))
}

/// `POST /api/domains/{id}/remove`
pub async fn remove(State(app): State<App>, Mine(instance): Mine, Path(id): Path<String>) -> Answer<StatusCode> {
    app.domains.remove(&instance, domains::domain_id(&id)?, instance.handle.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(app: &App, instance: &Instance, domain: &Domain) -> Value {
    let mut view = json!(domain);
    view["url"] = json!(app.config.hosts.entrance_by_domain(&domain.name, &instance.handle, instance.id).origin);
    view["txt_name"] = json!(domain.proof_name());
    view["alias_of"] = json!(app.config.hosts.instance_host(&instance.handle));
    view
}
