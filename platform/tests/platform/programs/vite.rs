//! A Vite dev server: hot module replacement over a WebSocket, in a real browser.

use super::*;
use berth_testing::chromium::ChromiumUser;

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_module_is_replaced_without_a_reload() {
    let scene = Scene::with(|folder| {
        for file in ["index.html", "main.js", "word.js", "vite.config.js", "package.json"] {
            std::fs::copy(fixture("vite").join(file), folder.join(file)).unwrap();
        }
        let mut node = Command::new(installed("programs/node"));
        node.arg(installed("programs/node_modules/vite/bin/vite.js")).stdout(Stdio::null());
        node
    })
    .await;
    let visitor = ChromiumUser::before(&scene.front, &[]).await;
    visitor.take_cookie(&scene.origin(), &scene.cookie).await;
    visitor.goto(&scene.origin()).await;
    visitor.until_it_says("first").await;
    let load = visitor.find("#load").await.text().await.unwrap();
    // The page may not listen yet, so the file is written again until the page shows the change.
    visitor
        .until("the page to be told", async || {
            std::fs::write(scene.folder.path().join("word.js"), "export const word = 'second';\n").unwrap();
            visitor.text().await.contains("second")
        })
        .await;
    assert_eq!(visitor.find("#load").await.text().await.unwrap(), load, "updated without a reload");
}
