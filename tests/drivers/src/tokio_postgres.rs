//! An agent that uses `tokio-postgres`, with rustls. Its argument is the file of the authority that
//! it trusts.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tokio_postgres::{AsyncMessage, Client, Config, config::SslMode, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let tls = tls()?;
    let mut config = Config::new();
    config
        .host(variable("PGHOST")?)
        .port(variable("PGPORT")?.parse()?)
        .user(variable("PGUSER")?)
        .dbname(variable("PGDATABASE")?)
        .ssl_mode(SslMode::Require);
    let (mut client, mut connection) = config.connect(tls.clone()).await?;
    let (heard, mut notifications) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(news) = message {
                let _ = heard.send(news.payload().to_owned()).await;
            }
        }
    });

    prepared(&client).await?;
    transaction(&mut client).await?;
    copy(&client).await?;
    binary(&client).await?;

    client.batch_execute("LISTEN news; NOTIFY news, 'hello'").await?;
    ensure!(notifications.recv().await.as_deref() == Some("hello"), "no notification");

    let token = client.cancel_token();
    let mut sleep = pin!(client.query("SELECT pg_sleep(60)", &[]));
    let slept = loop {
        tokio::select! {
            slept = &mut sleep => break slept,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                token.cancel_query(tls.clone()).await?;
            }
        }
    };
    let code = slept.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::QUERY_CANCELED), "{code:?}");
    ensure!(client.query_one("SELECT 42", &[]).await?.get::<_, i32>(0) == 42);
    println!("done");
    Ok(())
}

async fn prepared(client: &Client) -> Result<()> {
    client.batch_execute("CREATE TABLE orders (id int, name text)").await?;
    let insert = client.prepare("INSERT INTO orders VALUES ($1, $2)").await?;
    for id in 0..5_i32 {
        client.execute(&insert, &[&id, &format!("row {id}")]).await?;
    }
    let select = client.prepare("SELECT name FROM orders WHERE id = $1").await?;
    // Sent one behind the other: the driver pipelines what is polled together.
    let (first, second) =
        tokio::join!(client.query_one(&select, &[&1_i32]), client.query_one(&select, &[&2_i32]));
    for (id, row) in [(1, first?), (2, second?), (3, client.query_one(&select, &[&3_i32]).await?)] {
        ensure!(row.get::<_, String>(0) == format!("row {id}"));
    }
    Ok(())
}

async fn transaction(client: &mut Client) -> Result<()> {
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO orders VALUES (100, 'gone')", &[]).await?;
    let failed = transaction.query("SELECT 1/0", &[]).await;
    let code = failed.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::DIVISION_BY_ZERO), "{code:?}");
    transaction.rollback().await?;
    let count: i64 = client.query_one("SELECT count(*) FROM orders", &[]).await?.get(0);
    ensure!(count == 5, "{count} rows");
    Ok(())
}

async fn copy(client: &Client) -> Result<()> {
    let mut sink = pin!(client.copy_in::<_, &[u8]>("COPY orders FROM STDIN").await?);
    sink.send(b"7\tcopied\n").await?;
    sink.send(b"8\tcopied\n").await?;
    ensure!(sink.finish().await? == 2);
    let out = "COPY (SELECT id FROM orders WHERE id > 6 ORDER BY id) TO STDOUT";
    let data: Vec<_> = client.copy_out(out).await?.try_collect().await?;
    ensure!(data.concat() == b"7\n8\n", "{data:?}");
    Ok(())
}

async fn binary(client: &Client) -> Result<()> {
    let text = r"SELECT 7::int8, 2.5::float8, '\x00ff'::bytea, true";
    let row = client.query_one(text, &[]).await?;
    ensure!(row.get::<_, i64>(0) == 7);
    ensure!((row.get::<_, f64>(1) - 2.5).abs() < f64::EPSILON);
    ensure!(row.get::<_, &[u8]>(2) == [0, 255]);
    ensure!(row.get::<_, bool>(3));
    Ok(())
}

fn tls() -> Result<MakeRustlsConnect> {
    let file = std::env::args().nth(1).context("which authority?")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file)? {
        roots.add(certificate?)?;
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}
