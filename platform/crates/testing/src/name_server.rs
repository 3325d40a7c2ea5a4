//! A fake DNS server over UDP (RFC 1035, section 4): it answers from the TXT and CNAME records that a test sets, with
//! NXDOMAIN for every other name, or not at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

const TXT: u16 = 16;
const CNAME: u16 = 5;

/// What it says, until it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    said: Arc<Mutex<Said>>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Said {
    records: HashMap<(String, u16), String>,
    silent: bool,
    asked: usize,
}

impl NameServer {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let said: Arc<Mutex<Said>> = Arc::default();
        let serving = tokio::spawn(serve(socket, Arc::clone(&said)));
        Self { address, said, serving }
    }

    pub fn txt(&self, name: &str, text: &str) {
        self.said().records.insert((name.to_owned(), TXT), text.to_owned());
    }

    pub fn cname(&self, name: &str, to: &str) {
        self.said().records.insert((name.to_owned(), CNAME), to.to_owned());
    }

    /// Nothing is said of any name any more.
    pub fn clear(&self) {
        self.said().records.clear();
    }

    pub fn keep_silent(&self, silent: bool) {
        self.said().silent = silent;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.said().asked
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, said: Arc<Mutex<Said>>) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        if let Some(answer) = answer(&packet[..length], &mut said.lock().unwrap()) {
            socket.try_send_to(&answer, from).unwrap();
        }
    }
}

/// The response to a query: its id, its question unchanged, and the matching record, or NXDOMAIN (code 3) without one.
/// `None` while the server is set to be silent.
fn answer(question: &[u8], said: &mut Said) -> Option<Vec<u8>> {
    said.asked += 1;
    if said.silent {
        return None;
    }
    let (mut name, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let length = usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_ascii_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let found = said.records.get(&(name.join("."), kind));
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if found.is_some() { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    if let Some(text) = found {
        let data = if kind == TXT { piece(text) } else { labels(text) };
        // The name of the question again, the kind, class IN, a minute, and the data.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

fn piece(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn labels(name: &str) -> Vec<u8> {
    name.split('.').flat_map(piece).chain([0]).collect()
}
