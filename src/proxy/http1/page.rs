//! Answers of the driver itself: requests that never became one get the stock page of nginx and a closed
//! connection.

use http::StatusCode;
use tokio::time::Instant;

use super::date;
use crate::wire::encode;

/// A complete answer with `Connection: close`; the length of its head comes with it.
pub(super) fn refusal(status: StatusCode) -> (Vec<u8>, usize) {
    let phrase = match status.as_u16() {
        431 => "400 Request Header Or Cookie Too Large".to_owned(),
        code => format!("{code} {}", encode::reason_phrase(status)),
    };
    let body = format!(
        "<html>\r\n<head><title>{phrase}</title></head>\r\n<body>\r\n<center><h1>{phrase}</h1></center>\r\n\
         <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    let mut out = Vec::with_capacity(512);
    encode::status_line(&mut out, status, None);
    date::write(&mut out, Instant::now());
    encode::raw_field(&mut out, "Content-Type", b"text/html");
    encode::content_length(&mut out, body.len() as u64);
    encode::raw_field(&mut out, "Connection", b"close");
    encode::end_of_head(&mut out);
    let head = out.len();
    out.extend_from_slice(body.as_bytes());
    (out, head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_that_of_nginx() {
        let (out, head) = refusal(StatusCode::BAD_REQUEST);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\nDate: "), "{text}");
        assert!(text.contains("\r\nContent-Length: 150\r\nConnection: close\r\n\r\n"), "{text}");
        assert_eq!(
            &text[head..],
            "<html>\r\n<head><title>400 Bad Request</title></head>\r\n<body>\r\n\
             <center><h1>400 Bad Request</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
    }
}
