//! JupyterLab: a kernel executes code sent over a WebSocket. The installation is large, so only `scripts/soak programs`
//! has it.

use super::*;
use berth_testing::soak::SoakTest;

const TOKEN: &str = "what JupyterLab asks for on its own page";

#[tokio::test]
async fn a_kernel_executes_what_it_is_sent() {
    if !SoakTest::story("programs").is_whole() {
        return;
    }
    let scene = Scene::with(|_| {
        let mut lab = Command::new(installed("jupyter/bin/jupyter"));
        // `sh` expands $PORT from the environment, as the start script of an instance would.
        let words = "exec \"$0\" lab --allow-root --no-browser --ip=0.0.0.0 --port=\"$PORT\" --IdentityProvider.token=\"$TOKEN\"";
        let program = lab.get_program().to_owned();
        lab = Command::new("sh");
        lab.args(["-c", words]).arg(program).env("TOKEN", TOKEN);
        lab
    })
    .await;
    let mut client = Command::new(installed("jupyter/bin/python"));
    client.arg(fixture("jupyter_client.py"));
    client.env("ORIGIN", scene.origin()).env("COOKIE", &scene.cookie).env("TOKEN", TOKEN);
    client.env("AUTHORITY", scene.front.own_authority());
    assert_eq!(said(client).await, "2\n");
}
