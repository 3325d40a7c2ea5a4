//! The routers of the apex and the app host, built from their route tables with the layers that every route has.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use berth_ground::error::Error;
use http_body_util::BodyExt as _;
use tower_http::catch_panic::CatchPanicLayer;

use super::route::Route;
use super::{access, apex_routes, app_routes, csrf};
use crate::app::App;
use crate::http::headers;
use crate::http::problem::{self, HandlerResult, Problem};

/// Largest body of a form or of a passkey response, in bytes. Real ones stay below 4 KiB.
const BODY_LIMIT: usize = 64 * 1024;

/// Request timeout: from the head of the request to the head of the response, including the request's body. A
/// streamed response may take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// `https://example.com`: the landing page. No route of it reads a cookie.
pub fn apex_router(app: App) -> Router {
    let headers = headers::SecurityHeaders::apex(&app.config.hosts);
    build(app, apex_routes(), headers)
}

/// `https://app.example.com`: accounts, dashboard, admin, JSON API.
pub fn app_router(app: App) -> Router {
    let headers = headers::SecurityHeaders::app(&app.config.hosts);
    build(app, app_routes(), headers)
}

/// Builds the router from a route table, with the middleware that applies to every route. The layer added last runs
/// first.
fn build(app: App, table: Vec<Route>, headers: headers::SecurityHeaders) -> Router {
    let mut router = Router::new();
    for route in table {
        // A route layer runs after routing and before the handler, so a route cannot be reached without its access
        // check.
        let guard = from_fn_with_state(access::RouteGuard { app: app.clone(), access: route.access }, access::enforce);
        router = router.route(route.path, route.handler.route_layer(guard));
    }
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        // Innermost of the checks, so that its refusal is rendered by `problem::show` like any other.
        .layer(from_fn_with_state(app.config.hosts.app_origin(), csrf::enforce))
        .layer(from_fn_with_state(ANSWER_WITHIN, within_time))
        // Outside the timeout and inside `problem::show`: a panic becomes a problem response too.
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn_with_state(app.clock.clone(), problem::show))
        // Outermost, so that error pages carry the security headers as well.
        .layer(from_fn_with_state(headers, headers::add))
        .with_state(app)
}

/// Applies the request timeout. The status depends on which side was slow: 408 while the client still sends its body,
/// 503 after that.
async fn within_time(State(limit): State<Duration>, request: Request, next: Next) -> HandlerResult {
    let whole = Arc::new(());
    let on_its_way = Arc::downgrade(&whole);
    // Handlers read the body to its end and drop it. The marker moves into the body, so its reference count tells
    // whether the body is still being received.
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &whole;
            frame
        }))
    });
    let mut answer = std::pin::pin!(next.run(request));
    match tokio::time::timeout(limit, answer.as_mut()).await {
        Ok(answer) => Ok(answer),
        // 408 is the client's fault (RFC 9110 15.5.9) and is not logged: slow uploads would fill the log.
        Err(_) if on_its_way.strong_count() > 0 => {
            let detail = "The request did not arrive in time. Please try again.";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "Request timed out", detail))
        }
        Err(_) => {
            tracing::warn!("a request was given up: nothing answered it in time");
            let message = "This is taking longer than it should. Please try again in a moment.".to_owned();
            Err(Error::Unavailable { message, retry_after: Duration::from_secs(5) }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::http::header;
    use axum::routing::post;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_given_up_and_a_stream_is_not() {
        let never = || std::future::pending::<()>();
        let slowly = || {
            let chunks = futures_util::stream::unfold(0, async |n| {
                tokio::time::sleep(Duration::from_millis(60)).await;
                (n < 3).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"x")), n + 1))
            });
            Body::from_stream(chunks)
        };
        let router: Router = Router::new()
            .route("/read", post(|_: Bytes| async {}))
            .route("/hang", post(move |_: Bytes| never()))
            .route("/stream", post(async move |_: Bytes| slowly()))
            .layer(from_fn_with_state(Duration::from_millis(100), within_time))
            .layer(from_fn_with_state(berth_ground::clock::Clock::system(), problem::show));
        let endless = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        for (path, body, status) in [
            ("/read", Body::from("whole"), 200),
            ("/read", endless(), 408),
            ("/hang", Body::from("whole"), 503),
            ("/hang", Body::empty(), 503),
        ] {
            let answer = router.clone().oneshot(Request::post(path).body(body).unwrap()).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path}");
            let kind = answer.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap());
            assert_eq!(kind, (status != 200).then_some("application/problem+json"), "{path}");
        }
        let answer = router.oneshot(Request::post("/stream").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 3);
    }
}
