//! PROXY headers of both versions: what is one is the same however much of it is there, and is written as it was read.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::protocols::proxy::ProxyHeader;

const LIMIT: usize = 600;

fuzz_target!(|data: &[u8]| {
    let whole = ProxyHeader::parse(data, LIMIT);
    // Byte by byte the first answer that is not "more" is that of the whole.
    let first = (0..=data.len()).find_map(|n| ProxyHeader::parse(&data[..n], LIMIT).transpose());
    match (&whole, &first) {
        (Ok(Some((header, used))), Some(Ok((early, early_used)))) => {
            assert_eq!((header, used), (early, early_used));
            assert!(*used <= data.len() && *used <= LIMIT.max(107));
            let again = header.to_bytes();
            let (reread, length) = ProxyHeader::parse(&again, 1 << 16).expect("what was written").expect("all of it");
            assert_eq!(length, again.len());
            assert_eq!((reread.source(), reread.destination()), (header.source(), header.destination()));
        }
        (Ok(None), None) => assert!(data.len() <= LIMIT.max(107), "{} bytes, and no answer", data.len()),
        (Err(_), Some(Err(_))) => {}
        _ => panic!("whole: {whole:?}, in pieces: {first:?}"),
    }
});
