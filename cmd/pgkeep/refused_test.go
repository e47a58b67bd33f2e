package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// refusedConfiguration is that of a story that has none of its own.
const refusedConfiguration = `variable "conninfo" {
  type      = string
  sensitive = true
}

variable "port" {
  type = string
}

variable "work" {
  type = string
}

repository "main" {
  path = "${var.work}/repository"
}

server "orders" {
  conninfo     = "${var.conninfo} port=${var.port}"
  repositories = [repository.main]

  receiver {
    spool       = "${var.work}/spool"
    spool_limit = "1TiB"
  }

  backup {
    checkpoint = "fast"
  }
}
`

// TestRefused runs the stories of testdata/refused: one for each way in which a server, a machine or a store refuses, as it
// is read at three in the morning. They share a server and a standby of it that takes no connections.
func TestRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	root, err := os.MkdirTemp("/var/tmp", "pgkeep-") // a spool on tmpfs is refused, and /tmp may be one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil { // #nosec: a restored server is another user
		t.Fatal(err)
	}
	cert, key := selfSigned(t)
	other, _ := selfSigned(t)
	s := pgtest.Start(t, pgtest.Options{
		Version: newest(pgtest.Versions(t)), Settings: map[string]string{"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"},
		Files: map[string]string{"server.crt": cert, "server.key": key}, HBA: []string{"host all,replication secret 127.0.0.1/32 scram-sha-256"},
	})
	closed := s.Standby(t, pgtest.Options{Settings: map[string]string{"hot_standby": "off"}})
	plain := pgtest.Start(t, pgtest.Options{Version: s.Version})
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/refused",
		WorkdirRoot:   root,
		UpdateScripts: os.Getenv("PGKEEP_UPDATE") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":     exitWith,
			"ordinary": asOrdinaryUser,
			"speaks":   speaks,
			"careless": carelessStore,
			"sql":      func(ts *testscript.TestScript, _ bool, args []string) { runSQL(ts, s, strings.Join(args, " ")) },
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PGKEEP_VAR_conninfo", "host=127.0.0.1 user=postgres dbname=postgres sslmode=disable")
			e.Setenv("PGKEEP_VAR_port", fmt.Sprint(s.Port))
			e.Setenv("PGKEEP_VAR_work", e.WorkDir)
			e.Setenv("CLOSED", fmt.Sprint(closed.Port))
			e.Setenv("PLAIN", fmt.Sprint(plain.Port))
			e.Setenv("FREE", fmt.Sprint(closed.Port+1))
			e.Setenv("FREE_TOO", fmt.Sprint(closed.Port+2))
			e.Setenv("BINDIR", s.Bin)
			e.Setenv("OWNER", ordinaryUser())
			e.Setenv("HOME", e.WorkDir)
			files := map[string]string{"server.crt": cert, "other.crt": other}
			if _, err := os.Stat(filepath.Join(e.WorkDir, "pgkeep.hcl")); err != nil {
				name := strings.TrimPrefix(filepath.Base(e.WorkDir), "script-") // of the story: each has a slot of its own
				files["pgkeep.hcl"] = strings.ReplaceAll(refusedConfiguration, "orders", name)
				program, err := exec.LookPath("pgkeep")
				e.Defer(func() { leaveNoReceiver(t, program, err, e, name) })
			}
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o644); err != nil { // #nosec: another user reads it
					return err
				}
			}
			return nil
		},
	})
}

// selfSigned makes a certificate of localhost that vouches for itself, and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		Subject: pkix.Name{CommonName: "test authority"}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// ordinaryUser names the user that servers run as where this is root; otherwise the user of the tests.
func ordinaryUser() string {
	if os.Geteuid() == 0 {
		for _, name := range []string{"postgres", "nobody"} {
			if _, err := user.Lookup(name); err == nil {
				return name
			}
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// asOrdinaryUser runs pgkeep as somebody whom file systems refuse, and compares its exit code: ordinary 8 check. The
// program is reached through a descriptor: the directory it lies in is this user's.
func asOrdinaryUser(ts *testscript.TestScript, _ bool, args []string) {
	path, err := exec.LookPath("pgkeep")
	ts.Check(err)
	program, err := os.Open(path)
	ts.Check(err)
	defer program.Close()
	cmd := exec.Command("/proc/self/fd/3", args[1:]...)
	cmd.Args[0], cmd.ExtraFiles, cmd.Dir = path, []*os.File{program}, ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "PGKEEP_VAR_port", "PGKEEP_VAR_work"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	if os.Geteuid() == 0 {
		u, err := user.Lookup(ordinaryUser())
		ts.Check(err)
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		ts.Check(err)
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		ts.Check(err)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	out, err := cmd.CombinedOutput()
	ts.Check(os.WriteFile(ts.MkAbs("said"), out, 0o600))
	if cmd.ProcessState == nil || fmt.Sprint(cmd.ProcessState.ExitCode()) != args[0] {
		ts.Fatalf("pgkeep %s: %v, want %s\n%s", strings.Join(args[1:], " "), err, args[0], out)
	}
}

// speaks listens until the story ends, answers whoever comes with a text, and puts its port into $PORT.
func speaks(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 1024))
				_, _ = io.WriteString(c, strings.Join(args, " ")+"\r\n")
			})
		}
	})
	ts.Defer(func() {
		_ = l.Close()
		conns.Wait()
	})
	ts.Setenv("PORT", fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
}

// carelessStore serves S3's protocol until the story ends, as an old gateway does that knows no If-None-Match: whoever
// puts last wins. Its address is $STORE.
func carelessStore(ts *testscript.TestScript, _ bool, _ []string) {
	var mu sync.Mutex
	objects := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key := strings.TrimPrefix(r.URL.Path, "/bucket/")
		w.Header().Set("Content-Type", "application/xml")
		body, there := objects[key]
		switch {
		case r.Method == http.MethodPut:
			objects[key], _ = io.ReadAll(r.Body)
			w.Header().Set("ETag", `"0"`)
		case r.Method == http.MethodDelete: // what it was to keep locked, too
			delete(objects, key)
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Query().Has("versioning"): // it keeps none
			_, _ = io.WriteString(w, `<VersioningConfiguration></VersioningConfiguration>`)
		case r.URL.Query().Has("list-type"):
			_, _ = io.WriteString(w, `<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>`)
		case !there:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>`)
		default:
			w.Header().Set("ETag", `"0"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			_, _ = w.Write(body)
		}
	}))
	ts.Defer(server.Close)
	ts.Setenv("STORE", server.URL)
	ts.Setenv("AWS_ACCESS_KEY_ID", "key")
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
}
