//! What is served over HTTP.
//!
//! | route | answer |
//! |---|---|
//! | `/v1/locks` | the WebSocket; see [`crate::socket`] |
//! | `/healthz` | 200 as long as the process answers: restart it if not |
//! | `/readyz` | 200 while this relay can grant locks, else 503: send clients elsewhere |
//! | `/metrics` | the metrics, in the text format of OpenMetrics, which Prometheus reads |
//! | `/demo/*` (if asked for) | the demo's shop; see [`crate::demo`] |
//! | everything else (if asked for) | the files of a folder |

use crate::demo::{self, Shop};
use crate::metrics::Metrics;
use crate::{Shared, socket};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use std::path::Path;
use std::sync::Arc;
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

pub(crate) fn router(shared: Arc<Shared>, shop: Option<Shop>, www: Option<&Path>) -> Router {
    let mut router = Router::new()
        .route(lockrelay_protocol::PATH, any(socket::upgrade))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared);
    if let Some(shop) = shop {
        router = router.merge(demo::routes(shop));
    }
    if let Some(www) = www {
        // `no-cache` means: ask again, and take what you have if it has not changed. A page and a module of different
        // versions never meet.
        let fresh = SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let files = Router::new().fallback_service(ServeDir::new(www)).layer(fresh);
        router = router.fallback_service(files);
    }
    router
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.closing.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else if shared.sessions.ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no valid session in the store\n")
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], shared.metrics.encode())
}
