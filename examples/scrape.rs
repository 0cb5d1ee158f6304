//! cargo run --example scrape [URL] [--at-once N]
//!
//! Fetches a page and every page it links to on the same host, so many at a time, with ureq, a blocking HTTP client, unchanged on
//! green sockets. One thread, and a progress bar when stderr is a terminal. Without a URL it asks a slow server of its own.
#[path = "shared/green_ureq.rs"]
mod green_ureq;

use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::{Semaphore, sleep, spawn};
use twistlet::{Failure, Result};
use ureq::Agent;
use ureq::http::Uri;

/// What is known of a page that was fetched.
struct Page {
    status: u16,
    text: String,
}

fn fetch(agent: &Agent, url: &str) -> Result<Page> {
    let mut answer = agent.get(url).call()?;
    let text = String::from_utf8_lossy(&answer.body_mut().read_to_vec()?).into_owned();
    Ok(Page { status: answer.status().as_u16(), text })
}

/// What `page` links to on its own host.
fn links(base: &Uri, page: &str) -> BTreeSet<String> {
    let host = format!("http://{}", base.authority().map_or("", |host| host.as_str()));
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let targets = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let absolute = targets.filter_map(|target| {
        let target = target.split('#').next().unwrap_or_default();
        match target {
            "" => None,
            _ if target.starts_with(&format!("{host}/")) => Some(target.to_owned()),
            _ if target.contains(':') || target.starts_with("//") => None,
            _ if target.starts_with('/') => Some(format!("{host}{target}")),
            _ => Some(format!("{host}{folder}/{target}")),
        }
    });
    absolute.collect()
}

fn title(page: &str) -> &str {
    page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).map_or("", |(title, _)| title.trim())
}

fn scrape(url: &str, at_once: usize) -> Result {
    let config = Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .max_idle_connections_per_host(at_once)
        .build();
    let agent = green_ureq::agent(config);
    let started = Instant::now();
    let found = links(&url.parse()?, &fetch(&agent, url)?.text);
    let bar = ProgressBar::new(found.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?);
    let places = Semaphore::new(at_once);
    let jobs: Vec<_> = found
        .into_iter()
        .map(|url| {
            let (agent, bar, places) = (agent.clone(), bar.clone(), places.clone());
            let fetching = url.clone();
            let job = spawn(move || {
                let _place = places.acquire();
                let page = fetch(&agent, &fetching);
                bar.set_message(fetching);
                bar.inc(1);
                page
            });
            (url, job)
        })
        .collect();
    let (mut pages, mut failed, mut bytes) = (0, 0, 0);
    for (url, job) in jobs {
        match job.wait() {
            Ok(page) => {
                pages += 1;
                bytes += page.text.len();
                let line = format!("{} {url}: {} bytes, {:?}", page.status, page.text.len(), title(&page.text));
                bar.suspend(|| println!("{line}"));
            }
            Err(failure) => {
                failed += 1;
                bar.suspend(|| println!("... {url}: {failure}"));
            }
        }
    }
    bar.finish_and_clear();
    println!("{pages} pages, {bytes} bytes, {failed} failures in {} ms", started.elapsed().as_millis());
    if failed == 0 { Ok(()) } else { Err(Failure::msg("some pages could not be fetched")) }
}

/// A server that takes its time: a page of links, and behind each a page.
fn open_library() -> Result<String> {
    const BOOKS: usize = 60;
    const SLOWNESS: Duration = Duration::from_millis(50);
    let answer = |stream: TcpStream| -> Result {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_until(b'\n', &mut head)? == 0 {
                    return Ok(());
                }
            }
            sleep(SLOWNESS);
            let head = String::from_utf8_lossy(&head);
            let page = match head.split(' ').nth(1).and_then(|path| path.strip_prefix("/book/")) {
                Some(number) => format!("<title>Book {number}</title>{}", "All is well. ".repeat(500)),
                None => (1..=BOOKS).map(|n| format!("<a href=\"/book/{n}\">Book {n}</a>\n")).collect(),
            };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len());
            stream.get_mut().write_all(answer.as_bytes())?;
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    spawn(move || {
        for stream in listener.incoming() {
            let stream = stream?;
            spawn(move || answer(stream));
        }
        Ok::<_, Failure>(())
    });
    Ok(url)
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (url, at_once) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (Some(open_library()?), "20"),
        ["--at-once", at_once] => (Some(open_library()?), at_once),
        [url] if url.starts_with("http://") => (Some(url.to_owned()), "20"),
        [url, "--at-once", at_once] if url.starts_with("http://") => (Some(url.to_owned()), at_once),
        _ => (None, ""),
    };
    let (Some(url), Some(at_once)) = (url, at_once.parse().ok().filter(|n| *n > 0)) else {
        eprintln!("usage: scrape [http://HOST/PATH] [--at-once N]      (default: a server of its own, 20)");
        return Ok(ExitCode::from(2));
    };
    scrape(&url, at_once)?;
    Ok(ExitCode::SUCCESS)
}

// Try it:
//     python3 -m http.server 8000 & cargo run --example scrape http://127.0.0.1:8000/ --at-once 50
