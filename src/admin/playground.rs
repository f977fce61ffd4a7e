//! The playground: a page that joins a game, shows it, and says what the relay answers.
//!
//! Everything is in the binary and nothing comes from elsewhere, so it works without a network; the content security policy
//! holds the page to that.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Admin, Pages, Shared};

/// Scripts and styles of the page itself; connections to its own server, and to any relay, which is asked over HTTP whether it is
/// there at all.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src ws: wss: http: https: 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

/// An asset of the folder `playground/`, served under its own name.
macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            path: concat!("/playground/", $name),
            content_type: $content_type,
            body: include_str!(concat!("playground/", $name)),
        }
    };
}

/// A script of `clients/javascript`.
macro_rules! client {
    ($name:literal) => {
        Asset {
            path: concat!("/playground/", $name),
            content_type: SCRIPT,
            body: include_str!(concat!("../../clients/javascript/", $name)),
        }
    };
}

static ASSETS: &[Asset] = &[
    Asset { path: "/", content_type: HTML, body: include_str!("playground/index.html") },
    // The page speaks the native dialect, and edits documents, by the clients that anybody may use.
    client!("corelay.mjs"),
    client!("cursors.mjs"),
    client!("documents.mjs"),
    client!("membership.mjs"),
    client!("operations.mjs"),
    client!("pacing.mjs"),
    client!("prediction.mjs"),
    client!("records.mjs"),
    client!("requests.mjs"),
    client!("textarea.mjs"),
    client!("timeline.mjs"),
    client!("undo.mjs"),
    client!("world.mjs"),
    asset!("style.css", CSS),
    asset!("chat.css", CSS),
    asset!("text.css", CSS),
    asset!("icon.svg", SVG),
    asset!("camera.js", SCRIPT),
    asset!("chat.js", SCRIPT),
    asset!("chat-menu.js", SCRIPT),
    asset!("chat-messages.js", SCRIPT),
    asset!("chat-outbox.js", SCRIPT),
    asset!("chat-rows.js", SCRIPT),
    asset!("chat-view.js", SCRIPT),
    asset!("chat-words.js", SCRIPT),
    asset!("code.js", SCRIPT),
    asset!("figures.js", SCRIPT),
    asset!("games.js", SCRIPT),
    asset!("ground.js", SCRIPT),
    asset!("known.js", SCRIPT),
    asset!("main.js", SCRIPT),
    asset!("measurements.js", SCRIPT),
    asset!("meter.js", SCRIPT),
    asset!("panels.js", SCRIPT),
    asset!("phoenix-game.js", SCRIPT),
    asset!("phoenix-layout.js", SCRIPT),
    asset!("pilot.js", SCRIPT),
    asset!("play.js", SCRIPT),
    asset!("relay.js", SCRIPT),
    asset!("sides.js", SCRIPT),
    asset!("sight.js", SCRIPT),
    asset!("stage.js", SCRIPT),
    asset!("text.js", SCRIPT),
    asset!("text-cursors.js", SCRIPT),
    asset!("text-kept.js", SCRIPT),
    asset!("text-lines.js", SCRIPT),
    asset!("text-view.js", SCRIPT),
    asset!("text-words.js", SCRIPT),
    asset!("token.js", SCRIPT),
    asset!("words.js", SCRIPT),
    asset!("yaw.js", SCRIPT),
    // The npm package `phoenix`, unchanged: see phoenix.SOURCE.txt.
    asset!("phoenix.mjs", SCRIPT),
    asset!("phoenix.LICENSE.md", TEXT),
    asset!("phoenix.SOURCE.txt", TEXT),
];

/// The page, its assets, and `/playground.json`.
pub(super) fn router() -> Router<Arc<Pages>> {
    let assets = ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.path, get(move |headers: HeaderMap| async move { serve(asset, &headers) }))
    });
    assets.route("/playground.json", get(about))
}

/// `no-cache`: a browser asks each time, and a page of an older relay never meets assets of a newer one.
fn serve(asset: &'static Asset, request: &HeaderMap) -> Response {
    let tag = tag_of(asset.body);
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ];
    if request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, headers, [(header::ETAG, tag)]).into_response();
    }
    let content_type = HeaderValue::from_static(asset.content_type);
    (headers, [(header::CONTENT_TYPE, content_type)], [(header::ETAG, tag)], asset.body).into_response()
}

/// FNV-1a, because a tag need only differ when the asset does.
fn tag_of(body: &str) -> String {
    let hash = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

async fn about(State(pages): Shared) -> Response {
    let Admin { relay, relay_tls, is_development, about, certificates, .. } = &pages.admin;
    let certificates = certificates.now();
    let names = certificates.iter().flat_map(|tls| tls.certificates()).flat_map(|each| &each.names);
    let body = serde_json::json!({
        "relay": relay.to_string(), "relay_tls": relay_tls.map(|at| at.to_string()), "tls_names": names.collect::<Vec<_>>(),
        "development": is_development, "version": about.version,
    });
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_asset_that_is_named_is_served() {
        let served: BTreeSet<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        let mut named = 0;
        for asset in ASSETS.iter().filter(|asset| [HTML, SCRIPT].contains(&asset.content_type)) {
            for line in
                asset.body.lines().filter(|line| line.starts_with("import ") || line.contains("/playground/"))
            {
                let quoted = line.split('"').filter_map(|text| {
                    let name = text.strip_prefix("./").or_else(|| text.strip_prefix("/playground/"))?;
                    Some(format!("/playground/{name}"))
                });
                for path in quoted {
                    assert!(served.contains(path.as_str()), "{} names {path}", asset.path);
                    named += 1;
                }
            }
        }
        assert!(named > 12, "only {named} names were found");
    }

    #[test]
    fn the_page_holds_nothing_that_its_policy_forbids() {
        for asset in ASSETS.iter().filter(|asset| asset.content_type == HTML) {
            for forbidden in [" onclick=", " onload=", " style=", "<style", "<script>", "http://", "https://"]
            {
                assert!(!asset.body.contains(forbidden), "{} holds {forbidden}", asset.path);
            }
        }
    }

    #[test]
    fn an_asset_that_the_browser_has_is_not_sent_again() {
        let asset = &ASSETS[0];
        let fresh = serve(asset, &HeaderMap::new());
        assert_eq!(
            (fresh.status(), &fresh.headers()[header::CONTENT_TYPE]),
            (StatusCode::OK, &HTML.parse().unwrap())
        );
        assert_eq!(fresh.headers()[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, fresh.headers()[header::ETAG].clone());
        assert_eq!(serve(asset, &request).status(), StatusCode::NOT_MODIFIED);
        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"of an older relay\""));
        assert_eq!(serve(asset, &request).status(), StatusCode::OK);
    }
}
