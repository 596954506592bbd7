//! Owns the proof of who we are: passwords, and tokens that are got for them. Knows no image.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;

use super::challenge::{Challenge, challenge};
use super::error::RegistryError;
use super::http::Http;
use crate::auth::Credentials;
use crate::fetch::shown;
use crate::reference::RegistryHost;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// No honest token is longer.
const LONGEST_TOKEN: u64 = 256 << 10;
const CLIENT_ID: &str = "banger";

/// Who we are to one registry, and what was last shown of it.
#[derive(Debug)]
pub(super) struct Proof {
    host: RegistryHost,
    /// What a token is asked for where the registry does not say.
    scope: Option<String>,
    what: String,
    credentials: Credentials,
    current: Mutex<Option<HeaderValue>>,
}

impl Proof {
    pub(super) fn new(host: RegistryHost, repository: &str, credentials: Credentials) -> Self {
        Self {
            host,
            scope: Some(format!("repository:{repository}:pull")),
            what: repository.to_owned(),
            credentials,
            current: Mutex::new(None),
        }
    }

    /// Asks for nothing but to be known.
    pub(super) fn for_login(host: RegistryHost, credentials: Credentials) -> Self {
        Self {
            host,
            scope: None,
            what: "its interface".to_owned(),
            credentials,
            current: Mutex::new(None),
        }
    }

    /// Sends a request, and once more with a proof if the registry wants one.
    pub(super) async fn ask(
        &self,
        http: &Http,
        client: &Client,
        base: &Url,
        url: &Url,
        decorate: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let request = |proof: &Option<HeaderValue>| {
            let request = decorate(client.get(url.clone()));
            match proof {
                Some(proof) => request.header(AUTHORIZATION, proof.clone()),
                None => request,
            }
        };
        let proof = self.current.lock().await.clone();
        let response = http.send(request(&proof), url).await?;
        if !self.is_refusal(&response, base) {
            return Ok(response);
        }
        if response.status() == StatusCode::FORBIDDEN {
            return Err(self.denied(http, response, url).await);
        }
        let Some(challenge) = challenge(response.headers()) else {
            return Err(RegistryError::Challenge {
                host: self.host.to_string(),
            });
        };
        let Some(fresh) = self.renew(http, client, base, &challenge, proof).await? else {
            return Err(self.denied(http, response, url).await);
        };
        let response = http.send(request(&Some(fresh)), url).await?;
        if self.is_refusal(&response, base) {
            return Err(self.denied(http, response, url).await);
        }
        Ok(response)
    }

    /// Only the registry itself may ask who we are, not whom it sends us to.
    fn is_refusal(&self, response: &Response, base: &Url) -> bool {
        let refused = matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
        refused && response.url().origin() == base.origin()
    }

    /// A proof that is not the one that was refused; `None` where there is no other.
    async fn renew(
        &self,
        http: &Http,
        client: &Client,
        base: &Url,
        challenge: &Challenge,
        refused: Option<HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mut current = self.current.lock().await;
        if *current != refused {
            return Ok(current.clone());
        }
        let fresh = match challenge {
            Challenge::Basic => match &self.credentials {
                Credentials::Basic { username, password } => Some(basic(username, password)),
                Credentials::Anonymous | Credentials::IdentityToken(_) => None,
            },
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let scope = scope.as_ref().or(self.scope.as_ref());
                let wanted = Wanted {
                    realm,
                    service: service.as_deref(),
                    scope: scope.map(String::as_str),
                };
                let token = self.token(http, client, base, &wanted).await?;
                Some(secret(&format!("Bearer {token}")))
            }
        };
        let fresh = fresh.filter(|fresh| Some(fresh) != refused.as_ref());
        (*current).clone_from(&fresh);
        Ok(fresh)
    }

    /// Gets a token, as the distribution project has it, or with an identity token as OAuth 2.
    async fn token(
        &self,
        http: &Http,
        client: &Client,
        base: &Url,
        wanted: &Wanted<'_>,
    ) -> Result<String, RegistryError> {
        let realm = self.realm(base, wanted.realm)?;
        let request = wanted.request(client, &realm, &self.credentials);
        let failed = |source| RegistryError::Token {
            host: self.host.to_string(),
            realm: shown(&realm),
            source: Box::new(source),
        };
        let mut response = http.send(request, &realm).await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.denied(http, response, &realm).await);
            }
            _ => return Err(failed(http.failure(response, &realm).await)),
        }
        let body = http.body(&mut response, &realm, LONGEST_TOKEN).await;
        let token = parse_token(&body.map_err(failed)?);
        token.ok_or_else(|| RegistryError::NoToken { url: shown(&realm) })
    }

    /// Where tokens are. Credentials do not leave encryption on the way there.
    fn realm(&self, base: &Url, realm: &str) -> Result<Url, RegistryError> {
        let downgrade = || RegistryError::Downgrade {
            host: self.host.to_string(),
            realm: realm.chars().take(120).collect(),
        };
        let parsed = Url::parse(realm).map_err(|_| RegistryError::Challenge {
            host: self.host.to_string(),
        })?;
        let anonymous = matches!(self.credentials, Credentials::Anonymous);
        match parsed.scheme() {
            "https" => Ok(parsed),
            "http" if anonymous || base.scheme() == "http" => Ok(parsed),
            _ => Err(downgrade()),
        }
    }

    async fn denied(&self, http: &Http, response: Response, url: &Url) -> RegistryError {
        let detail = match http.failure(response, url).await {
            RegistryError::Status { detail, .. } => detail,
            _ => None,
        };
        RegistryError::Denied {
            host: self.host.to_string(),
            who: match &self.credentials {
                Credentials::Anonymous => "anybody".to_owned(),
                Credentials::Basic { username, .. } => format!("the user {username}"),
                Credentials::IdentityToken(_) => "the holder of our token".to_owned(),
            },
            what: self.what.clone(),
            detail,
        }
    }
}

/// What a registry says about the token that it wants.
struct Wanted<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: Option<&'a str>,
}

impl Wanted<'_> {
    fn request(&self, client: &Client, realm: &Url, credentials: &Credentials) -> RequestBuilder {
        let mut asked = vec![];
        asked.extend(self.service.map(|service| ("service", service)));
        asked.extend(self.scope.map(|scope| ("scope", scope)));
        let with = |more: &[(&str, &str)]| {
            let mut url = realm.clone();
            url.query_pairs_mut()
                .extend_pairs(asked.iter().chain(more))
                .finish();
            url
        };
        match credentials {
            Credentials::Anonymous => client.get(with(&[])),
            Credentials::Basic { username, password } => client
                .get(with(&[("account", username)]))
                .header(AUTHORIZATION, basic(username, password)),
            Credentials::IdentityToken(token) => {
                let mut form = realm.clone();
                form.set_query(None);
                let grant = [
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT_ID),
                    ("refresh_token", token),
                ];
                form.query_pairs_mut()
                    .extend_pairs(asked.iter().chain(&grant));
                client
                    .post(realm.clone())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
        }
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    secret(&format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{username}:{password}"))
    ))
}

/// A header that no log shows.
fn secret(text: &str) -> HeaderValue {
    let value = HeaderValue::from_str(text);
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("invalid"));
    value.set_sensitive(true);
    value
}

fn parse_token(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token)?;
    let fits = !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic());
    fits.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(credentials: Credentials) -> Proof {
        Proof::new("quay.io".parse().unwrap(), "a/b", credentials)
    }

    fn me() -> Credentials {
        Credentials::Basic {
            username: "me".into(),
            password: "p".into(),
        }
    }

    #[test]
    fn tokens_are_read_in_both_spellings() {
        assert_eq!(parse_token(br#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(
            parse_token(br#"{"access_token":"b"}"#).as_deref(),
            Some("b")
        );
        for bad in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a b"}"#,
            r#"{"token":7}"#,
        ] {
            assert_eq!(parse_token(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn credentials_go_to_no_realm_that_is_not_encrypted() {
        let https = Url::parse("https://quay.io/v2/").unwrap();
        let http = Url::parse("http://127.0.0.1:5000/v2/").unwrap();
        let check = |credentials: Credentials, base: &Url, realm: &str, allowed: bool| {
            let found = proof(credentials).realm(base, realm);
            assert_eq!(found.is_ok(), allowed, "{base} {realm}");
        };
        check(me(), &https, "https://auth.example/token", true);
        check(me(), &https, "http://auth.example/token", false);
        check(
            Credentials::Anonymous,
            &https,
            "http://auth.example/token",
            true,
        );
        check(me(), &http, "http://127.0.0.1:5001/token", true);
        check(me(), &https, "file:///etc/passwd", false);
        check(me(), &https, "token", false);
    }

    #[test]
    fn a_token_is_asked_for_with_what_the_registry_said() {
        let client = Client::builder().no_proxy();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = client.tls_certs_only([]).build().unwrap();
        let realm = Url::parse("https://auth.example/token?x=1").unwrap();
        let wanted = Wanted {
            realm: realm.as_str(),
            service: Some("s s"),
            scope: Some("repository:a/b:pull"),
        };
        let request = wanted.request(&client, &realm, &me()).build().unwrap();
        assert_eq!(
            request.url().query(),
            Some("x=1&service=s+s&scope=repository%3Aa%2Fb%3Apull&account=me")
        );
        let token = Credentials::IdentityToken("t&t".into());
        let request = wanted.request(&client, &realm, &token).build().unwrap();
        assert_eq!(request.method(), "POST");
        let body = request.body().and_then(|body| body.as_bytes()).unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.ends_with("refresh_token=t%26t"), "{body}");
    }
}
