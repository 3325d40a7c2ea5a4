//! A stub HTTP/1.1 server for the program in every container, on raw TCP: it parses requests as strictly as RFC 9112
//! allows, records each, and answers with the exact bytes that a test gives.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One step of the reply on the connection to a request. The steps run in order; after the last one the stub reads the
/// next request.
#[derive(Clone)]
pub enum Act {
    Say(Vec<u8>),
    /// Writes the same bytes in a loop until a write fails because the peer has closed the connection.
    Repeat(Vec<u8>),
    /// Byte by byte, so long between them.
    Trickle(Vec<u8>, Duration),
    /// Nothing more; the connection stays open.
    Hold,
    Close,
}

/// What the program does for a request.
type Script = Arc<dyn Fn(&Seen) -> Vec<Act> + Send + Sync>;

/// One request, as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The instance's own address.
    pub at: IpAddr,
    /// Request line and fields, without the empty line.
    pub head: String,
    pub body: Vec<u8>,
    /// The fault in the request: two parsers could read it differently, or it was truncated.
    pub wrong: Option<&'static str>,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

pub struct RawProgram {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    listening: JoinHandle<()>,
}

impl RawProgram {
    /// Listens at every instance's address. `/healthz` is answered; everything else is the script's.
    pub async fn start(script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (script, remembered): (Script, _) = (Arc::new(script), Arc::clone(&seen));
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&remembered)));
            }
        });
        Self { port, seen, listening }
    }

    /// Everything seen so far but `/healthz`.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for RawProgram {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// `200` with this text.
pub fn ok(text: &str) -> Vec<Act> {
    vec![Act::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes())]
}

async fn serve(mut stream: TcpStream, script: Script, remembered: Arc<Mutex<Vec<Seen>>>) {
    let at = stream.local_addr().unwrap().ip();
    let mut unread = Vec::new();
    while let Some(seen) = read(&mut stream, &mut unread, at).await {
        let healthz = seen.path() == "/healthz";
        let acts = if healthz { ok("ok") } else { script(&seen) };
        let lost = seen.wrong.is_some();
        if !healthz {
            remembered.lock().unwrap().push(seen);
        }
        if lost || !perform(&mut stream, acts).await {
            return;
        }
    }
}

/// Whether the connection goes on.
async fn perform(stream: &mut TcpStream, acts: Vec<Act>) -> bool {
    for act in acts {
        let said = match act {
            Act::Say(bytes) => stream.write_all(&bytes).await,
            Act::Repeat(bytes) => loop {
                if let Err(error) = stream.write_all(&bytes).await {
                    break Err(error);
                }
            },
            Act::Trickle(bytes, pause) => trickle(stream, &bytes, pause).await,
            Act::Hold => {
                while let Ok(1..) = stream.read(&mut [0; 1024]).await {}
                return false;
            }
            Act::Close => return false,
        };
        if said.is_err() {
            return false;
        }
    }
    true
}

async fn trickle(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        // Real time: the kernel would merge bytes that follow at once into one segment.
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// The next request; `None` when the connection ends between two.
async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>, at: IpAddr) -> Option<Seen> {
    let end = loop {
        if let Some(end) = position(unread, b"\r\n\r\n") {
            break end;
        }
        if more(stream, unread).await.is_none() {
            let head = String::from_utf8_lossy(unread).into_owned();
            let cut = Seen { at, head, body: Vec::new(), wrong: Some("a head that ends in its middle") };
            return (!unread.is_empty()).then_some(cut);
        }
    };
    let head: Vec<u8> = unread.drain(..end + 4).take(end).collect();
    let mut seen =
        Seen { at, wrong: ambiguity(&head), head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() };
    if seen.wrong.is_some() {
        return Some(seen);
    }
    let whole = match (seen.all("transfer-encoding").first(), seen.all("content-length").first()) {
        (Some(_), _) => chunked(stream, unread, &mut seen.body).await,
        (None, Some(length)) => exactly(stream, unread, length.parse().unwrap(), &mut seen.body).await,
        (None, None) => Some(()),
    };
    if whole.is_none() {
        seen.wrong = Some("a body that ends in its middle");
    }
    Some(seen)
}

/// What two readers could read in two ways (RFC 9112, 2.2, 5 and 6).
fn ambiguity(head: &[u8]) -> Option<&'static str> {
    let bare = |byte: u8, pair: [u8; 2]| {
        head.split(|&b| b == byte).count() != head.windows(2).filter(|w| *w == pair).count() + 1
    };
    if bare(b'\r', *b"\r\n") || bare(b'\n', *b"\r\n") || head.contains(&0) {
        return Some("a bare CR, LF or NUL");
    }
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.split("\r\n");
    let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    if line.len() != 3 || line[2] != "HTTP/1.1" {
        return Some("not a request line");
    }
    let mut framing = (0, 0, 0);
    for field in lines {
        let Some((name, value)) = field.split_once(':') else { return Some("a line without a colon") };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
            return Some("a field whose name is none");
        }
        match name.replace('_', "-").to_ascii_lowercase().as_str() {
            "host" => framing.0 += 1,
            "content-length" if value.trim().bytes().all(|b| b.is_ascii_digit()) => framing.1 += 1,
            "transfer-encoding" if value.trim() == "chunked" => framing.2 += 1,
            "content-length" | "transfer-encoding" => return Some("a framing field that is not exact"),
            _ => {}
        }
    }
    match framing {
        (1, 0 | 1, 0) | (1, 0, 1) => None,
        _ => Some("not one Host, or more than one framing field"),
    }
}

async fn exactly(stream: &mut TcpStream, unread: &mut Vec<u8>, length: usize, body: &mut Vec<u8>) -> Option<()> {
    while unread.len() < length {
        more(stream, unread).await?;
    }
    body.extend(unread.drain(..length));
    Some(())
}

async fn chunked(stream: &mut TcpStream, unread: &mut Vec<u8>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let size = line(stream, unread).await?;
        let size = usize::from_str_radix(&size, 16).ok()?;
        if size == 0 {
            while !line(stream, unread).await?.is_empty() {}
            return Some(());
        }
        exactly(stream, unread, size, body).await?;
        if !line(stream, unread).await?.is_empty() {
            return None;
        }
    }
}

async fn line(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<String> {
    let end = loop {
        match position(unread, b"\r\n") {
            Some(end) => break end,
            None => more(stream, unread).await?,
        }
    };
    let line: Vec<u8> = unread.drain(..end + 2).take(end).collect();
    String::from_utf8(line).ok()
}

async fn more(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk).await {
        Ok(n @ 1..) => {
            unread.extend(&chunk[..n]);
            Some(())
        }
        _ => None,
    }
}

pub fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
