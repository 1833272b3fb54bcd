//! Short answers that stay on their socket until the next request leaves.

use super::*;

/// Answers the request with number n with a body of `lengths[n % lengths.len()]` bytes, head and body apart; every third
/// body comes when the head was read.
async fn in_two_parts(lengths: &'static [usize], chunked: bool) -> Scripted {
    serve(move |_, mut conn| async move {
        // Without it the second part waits for the first one to be acknowledged.
        conn.stream.set_nodelay(true).unwrap();
        for number in 0_usize.. {
            if conn.head().await.is_empty() {
                return;
            }
            let body = body(number, lengths);
            let (head, body) = match chunked {
                true => {
                    ("Transfer-Encoding: chunked".into(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
                }
                false => (format!("Content-Length: {}", body.len()), body),
            };
            conn.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
            if number % 3 == 0 {
                tokio::task::yield_now().await;
            }
            conn.write(body).await;
        }
    })
    .await
}

fn body(number: usize, lengths: &[usize]) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    letter.to_string().repeat(lengths[number % lengths.len()])
}

#[test]
fn each_answer_comes_once_whatever_its_length() {
    for (lengths, chunked) in [
        (&[2][..], false),
        (&[2, 3, 100], true),
        (&[1, 3000, 2, 2, 5000, 2, 2, 100_000, 2, 300_000], false),
        (&[1, 3000, 2, 2, 5000, 2, 2, 100_000, 2, 300_000], true),
    ] {
        local(async {
            let (backend, upstreams) = (in_two_parts(lengths, chunked).await, upstreams());
            let peer = clear(backend.address);
            for number in 0..40 {
                let answer = Ask::get(&peer).send(&upstreams).await.unwrap();
                let (data, _, error) = read(answer.content).await;
                assert_eq!(error, None);
                assert!(data == body(number, lengths).as_bytes(), "{lengths:?} {chunked} {number}");
            }
            assert_eq!(backend.accepted.get(), 1, "{lengths:?} {chunked}");
        });
    }
}

#[test]
fn an_idle_connection_holds_its_last_answer_for_a_moment() {
    local(async {
        let (backend, upstreams) = (in_two_parts(&[2], false).await, upstreams());
        let peer = clear(backend.address);
        let mut held = false;
        for _ in 0..20 {
            let answer = Ask::get(&peer).send(&upstreams).await.unwrap();
            read(answer.content).await;
            held |= upstreams.untaken() > 0;
        }
        assert!(held, "no answer was looked at");
        while upstreams.untaken() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(upstreams.kept_connections().0, 1);
        // And it is used again.
        assert!(Ask::get(&peer).send(&upstreams).await.unwrap().reused);
    });
}
