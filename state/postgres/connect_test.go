package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// refusal tries both kinds of session and gives the error of the walsender's, after they agreed on the code.
func refusal(t *testing.T, conninfo string, files memory, want state.Code) error {
	t.Helper()
	c, err := postgres.ParseConninfo(conninfo, nil, files)
	if err != nil {
		t.Fatal(err)
	}
	r, err := postgres.ConnectReplication(t.Context(), c, postgres.ConnectOptions{Timeout: patience})
	if err == nil {
		_ = r.Close()
	}
	if state.CodeOf(err) != want {
		t.Errorf("%s: %q, want %q: %v", conninfo, state.CodeOf(err), want, err)
	}
	if err != nil && strings.Contains(err.Error()+state.HintOf(err), "canary") {
		t.Errorf("a secret in %v", err)
	}
	return err
}

func TestRefusedConnections(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{Version: v, HBA: []string{
				"host all,replication secret 127.0.0.1/32 scram-sha-256", "host replication barred 127.0.0.1/32 reject",
				"hostssl replication secure 127.0.0.1/32 trust", "host replication secure 127.0.0.1/32 reject",
			}})
			s.Exec(t, "create role secret login replication password 'right'; create role barred login replication")
			s.Exec(t, "create role plain login; create role nologin replication; create role secure login replication")
			if r := walsender(t, as(s, "secret")+" password=right"); r.Host() == "" {
				t.Error("no host")
			}
			refusal(t, as(s, "secret")+" password=canary", nil, state.CodePassword)
			refusal(t, as(s, "secret"), nil, state.CodePassword)
			err := refusal(t, as(s, "barred"), nil, state.CodeHBA)
			if !strings.Contains(state.HintOf(err), "host replication barred") {
				t.Errorf("hint %q", state.HintOf(err))
			}
			refusal(t, as(s, "secure"), nil, state.CodeHBA)
			refusal(t, as(s, "plain"), nil, state.CodeRole)
			refusal(t, as(s, "nologin"), nil, state.CodeRole)
			refusal(t, as(s, "absent"), nil, state.CodeRole)
			refusal(t, strings.Replace(as(s, "plain"), "disable", "require", 1), nil, state.CodeTLS)
			refusal(t, "host=127.0.0.1 port=1 user=a sslmode=disable", nil, state.CodeUnreachable)
			_, err = postgres.Connect(t.Context(), parse(t, "host=127.0.0.1 dbname=absent user=postgres sslmode=disable port="+fmt.Sprint(s.Port)), postgres.ConnectOptions{})
			if state.CodeOf(err) != state.CodeConninfo {
				t.Errorf("absent database: %v", err)
			}
		})
	}
}

func TestFullServer(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"max_wal_senders": "1", "max_replication_slots": "1"}})
	walsender(t, s.Conninfo())
	err := refusal(t, s.Conninfo(), nil, state.CodeTooMany)
	if !strings.Contains(state.HintOf(err), "max_wal_senders") {
		t.Errorf("hint %q", state.HintOf(err))
	}
	c := connect(t, s.Conninfo())
	if err := c.CreateSlot(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateSlot(t.Context(), "two"); state.CodeOf(err) != state.CodeSettings || !strings.Contains(state.HintOf(err), "max_replication_slots") {
		t.Errorf("no slot is left: %v", err)
	}
}

func TestConnectToAServerThatStarts(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	b := s.Standby(t, pgtest.Options{Settings: map[string]string{"hot_standby": "off"}})
	refusal(t, b.Conninfo(), nil, state.CodeStarting)
}

func TestSilentServerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := parse(t, fmt.Sprintf("host=127.0.0.1 port=%d user=a", l.Addr().(*net.TCPAddr).Port))
	_, err = postgres.Connect(t.Context(), c, postgres.ConnectOptions{Timeout: 100 * time.Millisecond})
	if state.CodeOf(err) != state.CodeUnreachable || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err = postgres.ConnectReplication(ctx, c, postgres.ConnectOptions{Timeout: patience}); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
}

func TestHostListFindsThePrimary(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 18) {
		a := pgtest.Start(t, pgtest.Options{Version: v})
		b := a.Standby(t, pgtest.Options{})
		b.AwaitReplay(t, a)
		list := fmt.Sprintf("host=127.0.0.1,127.0.0.1,localhost port=1,%d,%d user=postgres sslmode=disable", b.Port, a.Port)
		primary, standby := fmt.Sprintf("localhost:%d", a.Port), fmt.Sprintf("127.0.0.1:%d", b.Port)
		for target, want := range map[string]string{
			"": primary, "any": standby, "primary": primary, "read-write": primary, "standby": standby, "read-only": standby, "prefer-standby": standby,
		} {
			info := parse(t, list+" target_session_attrs='"+target+"'")
			c, err := postgres.Connect(t.Context(), info, postgres.ConnectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := postgres.ConnectReplication(t.Context(), info, postgres.ConnectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if c.Host() != want || r.Host() != want {
				t.Errorf("%d, %q: SQL on %s, walsender on %s, want %s", v, target, c.Host(), r.Host(), want)
			}
			_, _ = c.Close(), r.Close()
		}
		b.Stop(t, "immediate")
		_, err := postgres.Connect(t.Context(), parse(t, list+" target_session_attrs=standby"), postgres.ConnectOptions{})
		if state.CodeOf(err) != state.CodeUnreachable || !strings.Contains(err.Error(), primary+` is not "standby"`) {
			t.Errorf("no standby: %v", err)
		}
		c, err := postgres.Connect(t.Context(), parse(t, list+" target_session_attrs=prefer-standby"), postgres.ConnectOptions{})
		if err != nil || c.Host() != primary {
			t.Errorf("no standby, but one was only preferred: %v", err)
		}
	}
}

// The environment of the process is another one than the conninfo's on purpose.
func TestEnvironmentDoesNotLeakIn(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	for name, value := range map[string]string{
		"PGHOST": "192.0.2.1", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGUSER": "evil", "PGDATABASE": "evil", "PGPASSWORD": "evil",
		"PGSERVICE": "evil", "PGSERVICEFILE": "/evil", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/evil", "PGSSLCERT": "/evil",
		"PGSSLKEY": "/evil", "PGSSLCERTMODE": "require", "PGAPPNAME": "evil", "PGOPTIONS": "-c work_mem=1kB", "PGTZ": "evil", "PGTARGETSESSIONATTRS": "standby",
		"PGCONNECT_TIMEOUT": "evil", "PGREQUIREAUTH": "oauth", "PGCHANNELBINDING": "require", "PGMINPROTOCOLVERSION": "3.2", "PGPASSFILE": "/evil", "PGSSLNEGOTIATION": "direct",
	} {
		t.Setenv(name, value)
	}
	c := connect(t, s.Conninfo())
	if got, err := c.Ask(t.Context(), "select current_user || current_database() || current_setting('application_name') || current_setting('timezone')"); err != nil || got != "postgrespostgrestestUTC" {
		t.Fatalf("%q, %v", got, err)
	}
	walsender(t, s.Conninfo())
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue gives a certificate for a name, and its key.
func (a authority) issue(t *testing.T, name string, until time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func tlsServer(t *testing.T, version int, cert, key, ca string) *pgtest.Server {
	t.Helper()
	return pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{
		"wal_sender_timeout": "0", "ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "ca.crt",
	}, Files: map[string]string{"server.crt": cert, "server.key": key, "ca.crt": ca}, HBA: []string{
		"hostnossl all,replication all all reject", "hostssl all,replication client all cert", "hostssl all,replication secret all scram-sha-256",
	}})
}

func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cert, key := ca.issue(t, "localhost", time.Now().Add(time.Hour))
	clientCert, clientKey := ca.issue(t, "client", time.Now().Add(time.Hour))
	files := memory{"/ca": ca.pem(), "/other": other.pem(), "/c.crt": clientCert, "/c.key": clientKey}
	versions := pgtest.SomeVersions(t, 13, 18)
	for _, v := range versions {
		s := tlsServer(t, v, cert, key, ca.pem())
		s.Exec(t, "create role client login replication; create role secret login replication password 'p'")
		at := fmt.Sprintf("port=%d user=postgres ", s.Port)
		for _, good := range []string{
			"host=localhost sslmode=verify-full sslrootcert=/ca", "host=127.0.0.1 sslmode=verify-ca sslrootcert=/ca", "host=127.0.0.1 sslmode=require",
			"host=127.0.0.1 tcp_user_timeout=5000", "host=127.0.0.1 sslmode=allow", "host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=/ca ssl_min_protocol_version=TLSv1.3",
			"host=localhost user=client sslmode=verify-full sslrootcert=/ca sslcert=/c.crt sslkey=/c.key",
			"host=localhost user=secret password=p sslmode=verify-full sslrootcert=/ca channel_binding=require",
		} {
			refusal(t, at+good, files, "")
		}
		for bad, want := range map[string]state.Code{
			"host=127.0.0.1 sslmode=verify-full sslrootcert=/ca":             state.CodeTLS,
			"host=localhost sslmode=verify-full sslrootcert=/other":          state.CodeTLS,
			"host=localhost sslmode=verify-ca sslrootcert=/other":            state.CodeTLS,
			"host=localhost sslmode=require sslrootcert=/other":              state.CodeTLS,
			"host=localhost sslmode=verify-full sslrootcert=system":          state.CodeTLS,
			"host=localhost sslmode=disable":                                 state.CodeHBA,
			"host=localhost user=client sslmode=verify-full sslrootcert=/ca": state.CodeHBA,
		} {
			refusal(t, at+bad, files, want)
		}
		testStreamOverTLS(t, s, at+"host=localhost sslmode=verify-full sslrootcert=/ca", files)
		if v >= 17 {
			refusal(t, at+"host=localhost sslmode=verify-full sslrootcert=/ca sslnegotiation=direct", files, "")
		}
		if plain := fmt.Sprintf("host=%s port=%d user=postgres sslmode=verify-full sslrootcert=/ca", s.SocketDir, s.Port); v == versions[0] {
			refusal(t, plain, files, "") // sockets know no TLS
		}
	}
	expired, expiredKey := ca.issue(t, "localhost", time.Now().Add(-time.Hour))
	s := tlsServer(t, versions[0], expired, expiredKey, ca.pem())
	refusal(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=verify-full sslrootcert=/ca", s.Port), files, state.CodeTLS)
}

// testStreamOverTLS lets deadlines pass and goes on: a deadline must not spoil the TLS session.
func testStreamOverTLS(t *testing.T, s *pgtest.Server, conninfo string, files memory) {
	t.Helper()
	info, err := postgres.ParseConninfo(conninfo, nil, files)
	if err != nil {
		t.Fatal(err)
	}
	r, err := postgres.ConnectReplication(t.Context(), info, postgres.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := collected{start: flushed(t, s)}
	stream, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 1, From: got.start})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		testIdle(t, stream, &got)
		s.Exec(t, "create table x as select g, md5(g::text) from generate_series(1, 20000) g; drop table x")
		if err := got.until(t, stream, flushed(t, s)); err != nil {
			t.Fatal(err)
		}
		testBuffered(t, stream, &got)
	}
}
