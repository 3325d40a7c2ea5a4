//! Passive requests (prefetches, health checks, crawlers, link previews): they wake no instance and keep none awake.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

use crate::http::prefetch::is_prefetch;

/// The product names by which crawlers, link previews and monitors identify themselves in `User-Agent`. The list saves
/// wakes and is no access control: a client that sends another name is treated as a person's browser.
const AUTOMATED_AGENTS: [&str; 36] = [
    // Search engines.
    "Googlebot",
    "Google-InspectionTool",
    "AdsBot-Google",
    "bingbot",
    "DuckDuckBot",
    "YandexBot",
    "Baiduspider",
    "Applebot",
    "PetalBot",
    "SeznamBot",
    // Collectors of training data, and link indexes.
    "GPTBot",
    "OAI-SearchBot",
    "ClaudeBot",
    "PerplexityBot",
    "CCBot",
    "Amazonbot",
    "Bytespider",
    "meta-externalagent",
    "AhrefsBot",
    "SemrushBot",
    "MJ12bot",
    "DotBot",
    // Link previews.
    "facebookexternalhit",
    "Twitterbot",
    "LinkedInBot",
    "Slackbot",
    "Slackbot-LinkExpanding",
    "Discordbot",
    "TelegramBot",
    // Monitors and health checks.
    "UptimeRobot",
    "Pingdom",
    "StatusCake",
    "kube-probe",
    "ELB-HealthChecker",
    "GoogleHC",
    "Blackbox",
];

/// Whether a request is passive: no person waits for its answer.
pub(super) fn is_passive(parts: &Parts) -> bool {
    let path = parts.uri.path();
    // A HEAD request never shows a page; monitors and link checkers send it.
    parts.method == Method::HEAD
        || matches!(path, "/favicon.ico" | "/robots.txt")
        || path.starts_with("/.well-known/")
        || is_prefetch(&parts.headers)
        || is_automated(&parts.headers)
}

fn is_automated(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    // Compared word by word: "CUBOT", the name of a phone, contains the name of a bot.
    let mut words = agent.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.any(|word| AUTOMATED_AGENTS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn passive_requests_are_told_from_a_persons() {
        const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        for (passive, method, path, name, value) in [
            (false, "GET", "/", "user-agent", FIREFOX),
            (false, "POST", "/", "user-agent", "curl/8.5.0"),
            (false, "GET", "/robots.txt.html", "user-agent", FIREFOX),
            (false, "GET", "/a/favicon.ico", "user-agent", FIREFOX),
            // A phone of that name, and a person's own program.
            (
                false,
                "GET",
                "/",
                "user-agent",
                "Mozilla/5.0 (Linux; Android 13; CUBOT X70) Chrome/130.0 Mobile Safari/537.36",
            ),
            (false, "GET", "/", "user-agent", "my-bot/1.0"),
            (false, "GET", "/", "purpose", "work"),
            (true, "HEAD", "/", "user-agent", FIREFOX),
            (true, "GET", "/favicon.ico", "user-agent", FIREFOX),
            (true, "GET", "/robots.txt", "user-agent", FIREFOX),
            (true, "GET", "/.well-known/acme-challenge/x", "user-agent", FIREFOX),
            (true, "GET", "/", "sec-purpose", "prefetch"),
            (true, "GET", "/", "sec-purpose", "prefetch;prerender"),
            (true, "GET", "/", "purpose", "prefetch"),
            (true, "GET", "/", "x-moz", "prefetch"),
            (true, "GET", "/", "x-purpose", "preview"),
            (
                true,
                "GET",
                "/",
                "user-agent",
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ),
            (true, "GET", "/", "user-agent", "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"),
            (true, "GET", "/", "user-agent", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
            (true, "GET", "/healthz", "user-agent", "kube-probe/1.31"),
            (true, "GET", "/", "user-agent", "Blackbox Exporter/0.25.0"),
        ] {
            let request = Request::builder().method(method).uri(path).header(name, value).body(()).unwrap();
            assert_eq!(is_passive(&request.into_parts().0), passive, "{method} {path} {name}: {value}");
        }
    }
}
