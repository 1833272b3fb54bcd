//! Header blocks: those of RFC 7541 appendix C, those that are broken, and whatever the encoder writes.

use super::*;
use crate::wire::Fields;

/// Keeps every field.
#[derive(Default)]
struct All(Vec<(String, Vec<u8>)>);

impl Sink for All {
    fn line(&mut self, line: &Line<'_>) -> Appetite {
        assert_eq!(line.size(), line.name().len() + line.value().len() + OVERHEAD);
        self.0.push((line.name().to_owned(), line.value().into_owned()));
        Appetite::More
    }
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, Vec<u8>)>, HpackError> {
    let mut all = All::default();
    decoder.decode(block, &mut all).map(|()| all.0)
}

fn text(fields: &[(String, Vec<u8>)]) -> String {
    fields.iter().map(|(n, v)| format!("{n}={};", String::from_utf8_lossy(v))).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Blocks of one connection with what they say.
fn check(max: u32, blocks: &[(&str, &str)]) {
    let mut decoder = Decoder::new(max);
    for (hex, expect) in blocks {
        let fields = decoded(&mut decoder, &bytes(hex)).unwrap();
        assert_eq!(text(&fields), *expect, "{hex}");
    }
}

#[test]
fn fields_of_appendix_c_2_are_decoded() {
    check(
        4096,
        &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key=custom-header;")],
    );
    check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", ":path=/sample/path;")]);
    check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password=secret;")]);
    check(4096, &[("82", ":method=GET;")]);
}

const REQUESTS: [&str; 3] = [
    ":method=GET;:scheme=http;:path=/;:authority=www.example.com;",
    ":method=GET;:scheme=http;:path=/;:authority=www.example.com;cache-control=no-cache;",
    ":method=GET;:scheme=https;:path=/index.html;:authority=www.example.com;custom-key=custom-value;",
];

#[test]
fn requests_of_appendix_c_3_and_c_4_are_decoded() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let blocks: Vec<_> = blocks.into_iter().zip(REQUESTS).collect();
        check(4096, &blocks);
    }
}

#[test]
fn responses_of_appendix_c_5_and_c_6_are_decoded() {
    let expect = [
        ":status=302;cache-control=private;date=Mon, 21 Oct 2013 20:13:21 GMT;location=https://www.example.com;",
        ":status=307;cache-control=private;date=Mon, 21 Oct 2013 20:13:21 GMT;location=https://www.example.com;",
        ":status=200;cache-control=private;date=Mon, 21 Oct 2013 20:13:22 GMT;location=https://www.example.com;\
         content-encoding=gzip;set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1;",
    ];
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 \
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 \
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 \
         3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
         63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
         b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, huffman] {
        let blocks: Vec<_> = blocks.into_iter().zip(expect).collect();
        check(256, &blocks);
    }
}

#[test]
fn broken_blocks_are_told() {
    let check = |hex: &str, expect| {
        assert_eq!(decoded(&mut Decoder::new(4096), &bytes(hex)).map(|_| ()), Err(expect), "{hex}");
    };
    check("80", HpackError::Index);
    check("be", HpackError::Index);
    check("ff80808001", HpackError::Index);
    check("ff8080808001", HpackError::Number);
    check("7e", HpackError::Index);
    check("40", HpackError::Short);
    check("4001", HpackError::Short);
    check("400161", HpackError::Short);
    check("40016105", HpackError::Short);
    check("007f", HpackError::Short);
    check("ff", HpackError::Short);
    check("0001610381ff", HpackError::Short);
    check("00016182ffff", HpackError::Huffman);
    check("0081ff0161", HpackError::Huffman);
    // A new size: above ours, and behind a field.
    check("3fe21f", HpackError::Size);
    check("8220", HpackError::Size);
}

#[test]
fn a_new_size_empties_the_table_as_far_as_needed() {
    let mut decoder = Decoder::new(4096);
    let two = bytes("40 01 61 01 31 40 01 62 01 32");
    assert_eq!(text(&decoded(&mut decoder, &two).unwrap()), "a=1;b=2;");
    assert_eq!(text(&decoded(&mut decoder, &bytes("be bf")).unwrap()), "b=2;a=1;");
    // 34 bytes: one entry.
    assert_eq!(text(&decoded(&mut decoder, &bytes("3f03 be")).unwrap()), "b=2;");
    assert_eq!(decoded(&mut decoder, &bytes("bf")), Err(HpackError::Index));
    let mut decoder = Decoder::new(4096);
    decoded(&mut decoder, &two).unwrap();
    assert_eq!(decoded(&mut decoder, &bytes("20 3fe11f be")), Err(HpackError::Index));
    // What is larger than the table empties it, and is a field all the same.
    let mut decoder = Decoder::new(40);
    assert_eq!(text(&decoded(&mut decoder, &two).unwrap()), "a=1;b=2;");
    assert_eq!(
        text(&decoded(&mut decoder, &bytes("40 01 63 09 313233343536373839")).unwrap()),
        "c=123456789;"
    );
    assert_eq!(decoded(&mut decoder, &bytes("be")), Err(HpackError::Index));
}

#[test]
fn a_name_may_come_from_the_entry_that_its_own_line_displaces() {
    let mut decoder = Decoder::new(40);
    assert_eq!(text(&decoded(&mut decoder, &bytes("40 03 616263 01 31")).unwrap()), "abc=1;");
    for _ in 0..1000 {
        assert_eq!(text(&decoded(&mut decoder, &bytes("7e 02 3132 be")).unwrap()), "abc=12;abc=12;");
    }
}

#[test]
fn values_and_names_that_are_no_text_keep_their_bytes_and_sizes() {
    let mut decoder = Decoder::new(4096);
    let value = ("a".to_owned(), b"\xff\x61\xe9".to_vec());
    assert_eq!(decoded(&mut decoder, &bytes("40 01 61 03 ff61e9 be")).unwrap(), [value.clone(), value]);
    // What no field may hold need not stay what it was, but it counts.
    assert_eq!(text(&decoded(&mut decoder, &bytes("40 01 61 03 ff00e9 be")).unwrap()), "a=???;a=???;");
    assert_eq!(text(&decoded(&mut decoder, &bytes("40 01 61 03 ff00e9 be")).unwrap()), "a=???;a=???;");
    let fields = decoded(&mut decoder, &bytes("40 02 ffe9 01 61 be 7e 01 62")).unwrap();
    assert_eq!(text(&fields), "??=a;??=a;??=b;");
}

/// Stops after the first field.
#[derive(Default)]
struct First(usize);

impl Sink for First {
    fn line(&mut self, _: &Line<'_>) -> Appetite {
        self.0 += 1;
        Appetite::Full
    }
}

#[test]
fn a_sink_that_is_full_is_spared_and_the_table_stays_in_step() {
    let mut decoder = Decoder::new(4096);
    let mut first = First::default();
    decoder.decode(&bytes("82 40 01 61 01 31 40 01 62 01 32 be be be"), &mut first).unwrap();
    assert_eq!(first.0, 1);
    decoder.decode(&bytes("7f00 01 33"), &mut Discard).unwrap();
    assert_eq!(text(&decoded(&mut decoder, &bytes("be bf c0")).unwrap()), "a=3;b=2;a=1;");
    // Errors are errors still.
    assert_eq!(decoder.decode(&bytes("82 ff"), &mut Discard), Err(HpackError::Short));
}

// === The encoder ===

fn section(lines: &[(&str, &[u8])]) -> Fields {
    let mut fields = Fields::new();
    lines.iter().for_each(|(name, value)| fields.append(name, value).unwrap());
    fields
}

fn expected(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect()
}

#[test]
fn fields_that_come_again_cost_a_byte() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    let fields = section(&[
        ("Server", b"nginx"),
        ("Content-Type", b"text/html; charset=utf-8"),
        ("X-Powered-By", b"Rust"),
        ("Strict-Transport-Security", b"max-age=31536000; includeSubDomains"),
    ]);
    let mut lengths = Vec::new();
    for _ in 0..4 {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.status(200, &mut out);
        fields.lines().for_each(|line| encoder.line(line, &mut out));
        lengths.push(out.len());
        let got = decoded(&mut decoder, &out).unwrap();
        assert_eq!(got[0], (":status".to_owned(), b"200".to_vec()));
        assert_eq!(got[1..], expected(&fields));
    }
    assert_eq!(lengths[2..], [5, 5], "{lengths:?}");
}

#[test]
fn values_that_change_take_no_room_and_secrets_none_at_all() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for round in 0..200u32 {
        let id = format!("{round:032x}");
        let fields =
            section(&[("X-Request-Id", id.as_bytes()), ("Set-Cookie", b"sid=1"), ("Vary", b"Origin")]);
        let mut out = Vec::new();
        encoder.section(&fields, &mut out);
        assert_eq!(decoded(&mut decoder, &out).unwrap(), expected(&fields));
        // Never indexed: RFC 7541 section 6.2.3, with the name in the static table.
        assert!(out.windows(2).any(|pair| pair == [0x1f, 55 - 15]), "{out:02x?}");
    }
    // One entry was made: what is in the table twice would be found with a second index.
    assert_eq!(text(&decoded(&mut decoder, &bytes("be")).unwrap()), "vary=Origin;");
    assert_eq!(decoded(&mut decoder, &bytes("bf")), Err(HpackError::Index));
}

#[test]
fn every_status_is_written() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for status in 100..=999u16 {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.status(status, &mut out);
        assert_eq!(text(&decoded(&mut decoder, &out).unwrap()), format!(":status={status};"));
    }
}

#[test]
fn new_sizes_are_announced_before_the_next_block() {
    let check = |sizes: &[u32], expect: &[u8]| {
        let mut encoder = Encoder::new();
        sizes.iter().for_each(|size| encoder.set_max_size(*size));
        let mut out = Vec::new();
        encoder.begin(&mut out);
        assert_eq!(out, expect, "{sizes:?}");
        encoder.begin(&mut out);
        assert_eq!(out, expect, "{sizes:?}");
    };
    check(&[], &[]);
    check(&[4096], &[]);
    check(&[65_536], &[]);
    check(&[0], &[0x20]);
    check(&[100], &[0x3f, 69]);
    check(&[0, 4096], &[0x20, 0x3f, 0xe1, 0x1f]);
    check(&[100, 0, 50], &[0x20, 0x3f, 19]);
    check(&[4096, 100], &[0x3f, 69]);
    check(&[100, 65_536], &[0x3f, 69, 0x3f, 0xe1, 0x1f]);
}

/// Numbers by chance, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn whatever_is_written_is_read() {
    let mut chance = Chance(7);
    for connection in 0..40 {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for _ in 0..200 {
            if chance.below(20) == 0 {
                encoder.set_max_size([0, 33, 64, 300, 1000, 4096, 9000][chance.below(7) as usize]);
            }
            let mut fields = Fields::new();
            for _ in 0..chance.below(14) {
                let name = match chance.below(4) {
                    0 => ["Date", "content-type", "Set-Cookie", "ETag"][chance.below(4) as usize].to_owned(),
                    _ => format!("X-{}", chance.below(30)),
                };
                let length = [0, 3, 8, 30, 130, 1200, 3100, 5000][chance.below(8) as usize];
                let kind = chance.below(4);
                let letter = |chance: &mut Chance| match kind {
                    0 => b'a' + chance.below(26) as u8,
                    1 => 0x21 + chance.below(0x5e) as u8,
                    2 => b'x',
                    _ => 0x80 + chance.below(0x80) as u8,
                };
                let value: Vec<u8> = (0..length).map(|_| letter(&mut chance)).collect();
                fields.append(&name, &value).unwrap();
            }
            for _ in 0..=chance.below(3) {
                let mut out = Vec::new();
                encoder.section(&fields, &mut out);
                assert_eq!(
                    decoded(&mut decoder, &out).unwrap(),
                    expected(&fields),
                    "connection {connection}"
                );
            }
        }
    }
}

#[test]
fn blocks_by_chance_end_in_fields_or_errors_and_tables_stay_bounded() {
    let mut chance = Chance(11);
    for _ in 0..3000 {
        let mut decoder = Decoder::new(4096);
        for _ in 0..4 {
            let length = chance.below(300);
            let block: Vec<u8> = (0..length)
                .map(|_| match chance.below(4) {
                    0 => 0x40,
                    1 => 0x80 | chance.below(66) as u8,
                    2 => chance.below(12) as u8,
                    _ => chance.below(256) as u8,
                })
                .collect();
            // Which it is does not matter here.
            let _outcome = decoded(&mut decoder, &block);
        }
    }
}
