package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

func server(name, conninfo, spool string) hclspec.Server {
	return hclspec.Server{
		Name: name, Conninfo: hclspec.NewSecret(conninfo), Repositories: []string{"main"},
		Slot: hclspec.Slot{Name: "pgkeep_" + name}, Receiver: hclspec.Receiver{Spool: spool, ApplicationName: "pgkeep_" + name},
	}
}

func observed(t *testing.T, spec *hclspec.Spec, o Options) state.Observation {
	t.Helper()
	o.Host = "here"
	o.LockDir = filepath.Join(t.TempDir(), "lock")
	if o.Timeout == 0 {
		o.Timeout, o.RepositoryTimeout = 10*time.Minute, 10*time.Minute // a slow machine sees all the same
	}
	return World(context.Background(), spec, o)
}

func TestWorldOfARealServerAndAnEmptyPath(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.Versions(t)[0]})
	dir := t.TempDir()
	spec := &hclspec.Spec{
		Servers:      []hclspec.Server{server("orders", pg.Conninfo(), filepath.Join(dir, "spool"))},
		Repositories: []hclspec.Repository{{Name: "main", Path: filepath.Join(dir, "repository")}},
		Removed:      []hclspec.Removed{{Name: "legacy", Conninfo: hclspec.NewSecret(pg.Conninfo())}},
	}
	seen := observed(t, spec, Options{})
	for _, name := range []string{"orders", "legacy"} {
		if s := seen.Servers[name]; s.Unknown != nil || s.SystemID == "" || s.Timeline != 1 {
			t.Errorf("server %s: %+v", name, s)
		}
	}
	if u := seen.Repositories["main"].Unknown; u == nil || u.Code != state.CodeAbsent {
		t.Errorf("an absent path is %+v", u)
	}
	if r := seen.Receivers["orders"]; r.Unknown != nil || r.Running {
		t.Errorf("receiver: %+v", r)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("the look left %v, %v", entries, err)
	}
	content, err := json.Marshal(seen)
	if err != nil {
		t.Fatal(err)
	}
	var again state.Observation
	if err := json.Unmarshal(content, &again); err != nil {
		t.Fatal(err)
	}
	second, err := json.Marshal(again)
	if err != nil || string(second) != string(content) {
		t.Errorf("an observation does not survive JSON: %s", cmp.Diff(string(content), string(second)))
	}
}

// TestRepositoryThatIsMadeMeanwhile is made by another pgkeep while the server is asked: whatever the server then shows of
// that apply, the repository is seen too.
func TestRepositoryThatIsMadeMeanwhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repository")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	made := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			time.Sleep(300 * time.Millisecond) // time enough for a single look at the directory to miss it
			err = errors.Join(create(t.Context(), dir), conn.Close())
		}
		made <- err
	}()
	seen := observed(t, &hclspec.Spec{
		Servers:      []hclspec.Server{server("orders", fmt.Sprintf("host=127.0.0.1 port=%d user=pgkeep dbname=postgres sslmode=disable", listener.Addr().(*net.TCPAddr).Port), filepath.Join(t.TempDir(), "spool"))},
		Repositories: []hclspec.Repository{{Name: "main", Path: dir}},
	}, Options{})
	_ = listener.Close()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	if r := seen.Repositories["main"]; r.Unknown != nil || r.ID == "" {
		t.Errorf("the repository is %+v", r)
	}
}

func create(ctx context.Context, dir string) error {
	st, err := file.Open(dir, file.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	_, err = repository.Create(ctx, st, repository.CreateOptions{Now: time.Now(), Compression: seal.Codec{}})
	return err
}

func TestRepositoryThatIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repository")
	st, err := file.Open(dir, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := repository.Create(t.Context(), st, repository.CreateOptions{Now: time.Unix(1760000000, 0), Compression: seal.Codec{}})
	if err != nil {
		t.Fatal(err)
	}
	seen := observed(t, &hclspec.Spec{Repositories: []hclspec.Repository{{Name: "main", Path: dir}}}, Options{})
	if r := seen.Repositories["main"]; r.Unknown != nil || r.ID != repo.ID() || r.Free <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestDirectoryOfSomethingElseIsNoRepository(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := observed(t, &hclspec.Spec{Repositories: []hclspec.Repository{{Name: "main", Path: dir}}}, Options{})
	if u := seen.Repositories["main"].Unknown; u == nil || u.Code != state.CodeNotRepository {
		t.Errorf("%+v", u)
	}
}

// TestOtherHostsAreNeverLookedAt gives paths that would be seen, were they looked at.
func TestOtherHostsAreNeverLookedAt(t *testing.T) {
	dir := t.TempDir()
	s := server("orders", "host=127.0.0.1 port=1", dir)
	s.Receiver.Host = "there"
	recovery := hclspec.Recovery{Name: "r", Server: "orders", Destination: hclspec.Destination{Host: "there", Path: dir}}
	seen := observed(t, &hclspec.Spec{
		Servers: []hclspec.Server{s}, Repositories: []hclspec.Repository{{Name: "main", Path: dir, Host: "there"}},
	}, Options{Recoveries: []hclspec.Recovery{recovery}})
	for what, u := range map[string]*state.Unknown{
		"repository": seen.Repositories["main"].Unknown, "spool": seen.Spools["orders"].Unknown,
		"receiver": seen.Receivers["orders"].Unknown, "destination": seen.Recoveries["r"].Unknown,
	} {
		if u == nil || u.Code != state.CodeOtherHost || u.Hint != "run pgkeep on there" {
			t.Errorf("%s: %+v", what, u)
		}
	}
}

// TestSilentServerIsUnknownInTime has a server that takes the connection and says nothing, beside one that refuses it.
func TestSilentServerIsUnknownInTime(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	const password = "correct-horse"
	spec := &hclspec.Spec{Servers: []hclspec.Server{
		server("silent", "host=127.0.0.1 user=u sslmode=disable password="+password+" port="+port, t.TempDir()),
		server("refused", "host=127.0.0.1 user=u sslmode=disable password="+password+" port=1", t.TempDir()),
		server("nonsense", "host=127.0.0.1 password="+password+" nosuchword=1", t.TempDir()),
	}}
	began := time.Now()
	seen := observed(t, spec, Options{Timeout: 300 * time.Millisecond})
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	for name, want := range map[string]state.Code{"silent": state.CodeUnreachable, "refused": state.CodeUnreachable, "nonsense": state.CodeConninfo} {
		u := seen.Servers[name].Unknown
		if u == nil || u.Code != want || u.Because == "" {
			t.Errorf("%s: %+v", name, u)
			continue
		}
		if strings.Contains(u.Because+u.Hint, password) {
			t.Errorf("%s tells the password: %+v", name, u)
		}
	}
}

func TestDestination(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	taken := filepath.Join(dir, "taken")
	for _, d := range []string{full, taken} {
		if err := os.MkdirAll(filepath.Join(d, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	recovery := func(name, path string) hclspec.Recovery {
		return hclspec.Recovery{Name: name, Server: "orders", Destination: hclspec.Destination{
			Path: path, Owner: "no-such-user-here", BinDir: dir, Tablespaces: map[string]string{"fast": filepath.Join(dir, "fast"), "slow": taken},
		}}
	}
	absent := filepath.Join(dir, "absent")
	seen := observed(t, &hclspec.Spec{}, Options{Recoveries: []hclspec.Recovery{recovery("absent", absent), recovery("full", full)}})
	a, f := seen.Recoveries["absent"], seen.Recoveries["full"]
	if a.Unknown != nil || a.Exists || a.Free[absent] <= 0 || a.Free[filepath.Join(dir, "fast")] <= 0 || a.OwnerExists || a.BinVersion != 0 {
		t.Errorf("absent: %+v", a)
	}
	if diff := cmp.Diff([]string{taken}, a.Taken); diff != "" {
		t.Errorf("taken targets of tablespaces: %s", diff)
	}
	if f.Unknown != nil || !f.Exists || f.Empty || f.Running || f.Ours {
		t.Errorf("full: %+v", f)
	}
	if fact := seen.Targets["absent"]; fact.Unknown == nil || fact.Unknown.Code != state.CodeTarget {
		t.Errorf("target without a repository: %+v", fact)
	}
}

// TestHungLookIsLeftBehind stands for a file system that never answers.
func TestHungLookIsLeftBehind(t *testing.T) {
	l := &look{}
	never := make(chan struct{})
	defer close(never)
	l.slots = make(chan struct{}, 1)
	var got string
	ask(context.Background(), l, question[string]{
		limit: time.Millisecond,
		see:   func(context.Context) string { <-never; return "seen" },
		late:  func(err error) string { return "late: " + err.Error() },
		store: func(s string) { got = s },
	})
	l.all.Wait()
	if got != "late: context deadline exceeded" {
		t.Errorf("%q", got)
	}
}
