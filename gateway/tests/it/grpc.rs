//! gRPC through the gateway, with a real server behind and a real client in front.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::Pin, task::Poll, time::Duration};

use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use sluice_common::l402::{Challenge, Credential};
use sluice_gateway::config::{Access, UpstreamConfig};
use tokio::time::timeout;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::ProstCodec,
    metadata::MetadataValue,
    server::NamedService,
    transport::{Channel, Endpoint, Server},
};
use tower::{Service, service_fn};

use crate::World;

type Codec = ProstCodec<String, String>;

/// Says back what it hears: one message, or each as it comes.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "echo.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            let one = service_fn(async |request: Request<String>| {
                let seen = request.metadata().contains_key("authorization");
                match request.into_inner().as_str() {
                    "fail" => Err(Status::not_found("there is none")),
                    said => Ok(Response::new(format!("{said}, credential: {seen}"))),
                }
            });
            let each = service_fn(async |request: Request<Streaming<String>>| {
                let last = stream::once(async { Err(Status::resource_exhausted("that was all")) });
                Ok(Response::new(request.into_inner().chain(last)))
            });
            Ok(match request.uri().path() {
                "/echo.Echo/One" | "/echo.Echo/Free" => grpc.unary(one, request).await,
                _ => grpc.streaming(each, request).await,
            })
        })
    }
}

async fn server() -> SocketAddr {
    let free = sluice_testing::free_address();
    tokio::spawn(Server::builder().add_service(Echo).serve(free));
    free
}

async fn world() -> World {
    let upstream = UpstreamConfig::new(&[format!("h2c://{}", server().await)]).unwrap();
    World::with(|service| {
        service.upstream = upstream;
        service.offer.access =
            Access::protect(vec!["/echo.Echo/One".parse().unwrap(), "/echo.Echo/Each".parse().unwrap()]);
        service.offer.forward_credential = false;
    })
    .await
}

struct Client(tonic::client::Grpc<Channel>);

impl Client {
    async fn of(world: &World) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", world.gateway.address())).unwrap();
        let mut grpc = tonic::client::Grpc::new(endpoint.connect_lazy());
        grpc.ready().await.unwrap();
        Self(grpc)
    }

    async fn one(
        &mut self,
        method: &'static str,
        said: &str,
        credential: Option<&Credential>,
    ) -> Result<String, Status> {
        self.0.ready().await.unwrap();
        let request = with(Request::new(said.to_owned()), credential);
        let call = self.0.unary(request, PathAndQuery::from_static(method), Codec::default());
        timeout(Duration::from_secs(20), call).await.expect("no answer").map(Response::into_inner)
    }
}

fn with<T>(mut request: Request<T>, credential: Option<&Credential>) -> Request<T> {
    if let Some(credential) = credential {
        let value = MetadataValue::try_from(credential.authorization().expose()).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn challenge(status: &Status) -> Challenge {
    assert_eq!((status.code(), status.message()), (Code::Internal, "payment required"));
    let lines: Vec<_> =
        status.metadata().get_all("www-authenticate").iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(lines.len(), 2);
    Challenge::parse(lines).unwrap()
}

async fn pay(world: &World, status: &Status) -> Credential {
    let challenge = challenge(status);
    let preimage = world.wallet.pay(&challenge.invoice, std::time::SystemTime::now()).await.unwrap();
    Credential::new(challenge.macaroon, preimage)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_asked_for_payment_and_answered_with_its_trailers() {
    let world = world().await;
    let mut client = Client::of(&world).await;
    assert_eq!(client.one("/echo.Echo/Free", "hello", None).await.unwrap(), "hello, credential: false");
    let refused = client.one("/echo.Echo/One", "hello", None).await.unwrap_err();
    let credential = pay(&world, &refused).await;
    let answer = client.one("/echo.Echo/One", "hello", Some(&credential)).await.unwrap();
    assert_eq!(answer, "hello, credential: false", "which is not for this server");
    let status = client.one("/echo.Echo/One", "fail", Some(&credential)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is none"));
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_both_directions_flows_message_by_message() {
    let world = world().await;
    let mut client = Client::of(&world).await;
    let each = PathAndQuery::from_static("/echo.Echo/Each");
    let endless = stream::repeat("again".to_owned()).then(async |said| {
        tokio::time::sleep(Duration::from_millis(5)).await;
        said
    });
    let unpaid = client.0.streaming(Request::new(endless), each.clone(), Codec::default());
    let refused = timeout(Duration::from_secs(20), unpaid).await.expect("no answer").map(drop).unwrap_err();
    let credential = pay(&world, &refused).await;

    let (say, said) = tokio::sync::mpsc::channel::<String>(1);
    let said = stream::unfold(said, async |mut said| Some((said.recv().await?, said)));
    client.0.ready().await.unwrap();
    let answers = client.0.streaming(with(Request::new(said), Some(&credential)), each, Codec::default()).await;
    let mut answers = answers.unwrap().into_inner();
    for number in 0..10 {
        say.send(format!("message {number}")).await.unwrap();
        let answer = timeout(Duration::from_secs(20), answers.message()).await.expect("held back").unwrap();
        assert_eq!(answer.unwrap(), format!("message {number}"));
    }
    drop(say);
    let status = timeout(Duration::from_secs(20), answers.message()).await.expect("no trailers").unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "that was all"));
    world.gateway.stop().await;
}
