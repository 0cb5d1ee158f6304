//! A name server that answers with anything, by datagrams and by TCP: the client fails or is told something, and no more.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::rc::Rc;
use std::time::Duration;
use twistlet::testing::simulate;
use twistlet::transport::dns::{Client, Config, RecordType};
use twistlet::transport::{DatagramPort, DatagramProtocol};
use twistlet::{Address, Protocol, TransportRef};

#[derive(Clone)]
struct Server {
    answer: Rc<[u8]>,
    /// Whether the header's number and the question are as they should be.
    plausible: bool,
    /// By TCP questions come in pieces too.
    asked: Vec<u8>,
}
impl Server {
    fn message(&self, question: &[u8]) -> Vec<u8> {
        if !self.plausible {
            return self.answer.to_vec();
        }
        let Some((flags, rest)) = self.answer.split_at_checked(8) else { return Vec::new() };
        // The number; flags and counts of records, one question, as the input has them; the question; the input.
        let end = 12 + question[12..].iter().position(|&byte| byte == 0).unwrap_or(0) + 5;
        [&question[..2], &[flags[0] | 0x80, flags[1]], &[0, 1], &flags[2..8], &question[12..end], rest].concat()
    }
}
impl DatagramProtocol for Server {
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        let _ = port.write_to(self.message(data), from);
    }
}
impl Protocol for Server {
    fn data_received(&mut self, wire: TransportRef, data: &[u8]) {
        self.asked.extend_from_slice(data);
        let Some((length, question)) = self.asked.split_first_chunk() else { return };
        if let Some(question) = question.get(..usize::from(u16::from_be_bytes(*length))) {
            let message = self.message(question);
            wire.write((message.len() as u16).to_be_bytes());
            wire.write(message);
            self.asked.clear();
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, answer)) = data.split_first() else { return };
    let kinds = [RecordType::A, RecordType::SRV, RecordType::TXT, RecordType::ANY];
    let kind = kinds[usize::from(choice >> 2) % kinds.len()];
    let piece = usize::from(choice >> 4);
    let found = simulate(|reactor, network| {
        if piece > 0 {
            network.limit_io(piece); // answers by TCP come in such pieces
        }
        let server = Server { answer: answer.into(), plausible: choice & 1 != 0, asked: Vec::new() };
        reactor.listen_udp("10.0.0.1:53", server.clone())?;
        reactor.listen_tcp("10.0.0.1:53", move || server.clone())?;
        let config = Config::new().server(([10, 0, 0, 1], 53).into()).timeout(Duration::from_millis(1)).attempts(1);
        Ok(Client::with_config(reactor, config.tcp_only(choice & 2 != 0)).lookup("x.test", kind))
    });
    if let Ok(records) = found {
        assert!(!records.is_empty());
    }
});
