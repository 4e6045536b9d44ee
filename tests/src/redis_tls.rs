//! Certificates for one test: an authority, a server at 127.0.0.1 and localhost, and a client. Files, gone with their guard.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// PEM files of an authority and of what it signed.
#[derive(Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// Makes them, valid for 127.0.0.1 and localhost.
    ///
    /// # Panics
    /// If the temporary folder cannot be written to.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("lockrelay-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("writable");

        let mut authority = CertificateParams::new([]).expect("no names are valid names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("signs itself");
        write("ca.pem", authority.pem());
        for (name, hosts) in [("server", &["127.0.0.1", "localhost"][..]), ("client", &[])] {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let key = KeyPair::generate().expect("random numbers");
            let certificate = CertificateParams::new(hosts)
                .expect("valid names")
                .signed_by(&key, &authority)
                .expect("the authority signs");
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn server_cert(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// The server's key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// The client's certificate.
    #[must_use]
    pub fn client_cert(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// The client's key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }

    /// The folder of all of them.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
