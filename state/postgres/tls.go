package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
)

// tlsSettings is what a conninfo says about encryption, with the files read.
type tlsSettings struct {
	roots    *x509.CertPool // nil: the system's (sslrootcert=system), or none
	system   bool
	client   []tls.Certificate
	min, max uint16
	noSNI    bool
	direct   bool // sslnegotiation
	certMode string
}

// sslmode takes the mode: with the system's root certificates verify-full, as in libpq.
func (r *resolver) sslmode(c *Conninfo) error {
	usual := "prefer"
	if r.set["sslrootcert"] == "system" {
		usual = "verify-full"
	}
	c.sslmode = r.set.or("sslmode", usual)
	return settings{"sslmode": c.sslmode}.oneOf("sslmode", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
}

// tls reads what goes with sslmode. As in libpq a root certificate that exists makes "require" as strict as "verify-ca",
// and the verifying modes need one.
func (r *resolver) tls(c *Conninfo) error {
	c.tls.noSNI = r.set["sslsni"] == "0"
	c.tls.certMode = r.set.or("sslcertmode", "allow")
	c.tls.direct = r.set["sslnegotiation"] == "direct"
	if c.tls.direct && (c.sslmode == "disable" || c.sslmode == "allow" || c.sslmode == "prefer") {
		return errors.New("sslnegotiation=direct needs sslmode require or above")
	}
	if c.sslmode == "disable" {
		return nil
	}
	steps := []func(*Conninfo) error{r.tlsVersions, r.tlsRoots, r.tlsClient}
	for _, step := range steps {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) tlsVersions(c *Conninfo) error {
	versions := map[string]uint16{"": 0, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	var ok bool
	if c.tls.min, ok = versions[r.set["ssl_min_protocol_version"]]; !ok {
		return errors.New("ssl_min_protocol_version is none of TLSv1.2, TLSv1.3")
	}
	if c.tls.max, ok = versions[r.set["ssl_max_protocol_version"]]; !ok {
		return errors.New("ssl_max_protocol_version is none of TLSv1.2, TLSv1.3")
	}
	c.tls.min = max(c.tls.min, tls.VersionTLS12)
	return nil
}

func (r *resolver) tlsRoots(c *Conninfo) error {
	file := r.set["sslrootcert"]
	if file == "system" {
		if c.sslmode != "verify-full" {
			return errors.New("sslrootcert=system needs sslmode=verify-full")
		}
		c.tls.system = true
		return nil
	}
	named := file != ""
	if !named {
		file = r.home(".postgresql/root.crt")
	}
	var pem []byte
	if file != "" {
		var err error
		pem, err = r.read(file)
		if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	if pem == nil {
		if c.sslmode == "verify-ca" || c.sslmode == "verify-full" {
			return hinted{"sslmode=" + c.sslmode + " has no root certificate to verify with", "add sslrootcert=FILE, or sslrootcert=system for the machine's own"}
		}
		return nil
	}
	c.tls.roots = x509.NewCertPool()
	if !c.tls.roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", file)
	}
	if c.sslmode == "require" {
		c.sslmode = "verify-ca"
	}
	return nil
}

func (r *resolver) tlsClient(c *Conninfo) error {
	cert, key := r.set["sslcert"], r.set["sslkey"]
	named := cert != ""
	if c.tls.certMode == "disable" {
		return nil
	}
	if cert == "" {
		cert = r.home(".postgresql/postgresql.crt")
	}
	if key == "" {
		key = r.home(".postgresql/postgresql.key")
	}
	if cert == "" || key == "" {
		return nil
	}
	certPEM, err := r.read(cert)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return err
	}
	keyPEM, err := r.secret(key)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("%s and %s are not a certificate and its key (an encrypted key is not supported)", cert, key)
	}
	c.tls.client = []tls.Certificate{pair}
	return nil
}

// tlsConfigs gives the TLS configurations to try with a host, in order; nil in the list means none of TLS.
func (c Conninfo) tlsConfigs(h host) []*tls.Config {
	if c.sslmode == "disable" || len(h.name) > 0 && h.name[0] == '/' {
		return []*tls.Config{nil}
	}
	config := &tls.Config{Certificates: c.tls.client, RootCAs: c.tls.roots, MinVersion: c.tls.min, MaxVersion: c.tls.max}
	if c.tls.direct {
		config.NextProtos = []string{"postgresql"}
	}
	if !c.tls.noSNI && net.ParseIP(h.name) == nil || c.sslmode == "verify-full" {
		config.ServerName = h.name
	}
	switch c.sslmode {
	case "verify-full":
	case "verify-ca":
		config.InsecureSkipVerify = true // #nosec G402: the chain is verified below, the name is not asked for
		config.VerifyConnection = verifyChain(c.tls.roots)
	default:
		config.InsecureSkipVerify = true // #nosec G402: what these modes mean; the plan warns of them
	}
	switch c.sslmode {
	case "allow":
		return []*tls.Config{nil, config}
	case "prefer":
		return []*tls.Config{config, nil}
	}
	return []*tls.Config{config}
}

// verifyChain checks the server's certificate against the roots, whatever name it bears.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
}
