package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Options says what kind of server to start. The zero value but for Version is a small, fast, not durable one.
type Options struct {
	Version     int               // major; 0 is 15
	Settings    map[string]string // for postgresql.conf (StartDir: the command line), over the usual ones
	SegmentMB   int               // WAL segment size in MiB; 0 is 16
	NoChecksums bool              // initdb without data checksums
	HBA         []string          // lines put before the usual pg_hba.conf, which trusts everybody local
	Files       map[string]string // written into the data directory, mode 0600, before the first start
	Durable     bool              // fsync on and on disk, for tests that crash more than processes
	OnDisk      bool              // not in memory: for clusters of gigabytes
}

func (o Options) segmentMB() int {
	if o.SegmentMB == 0 {
		return 16
	}
	return o.SegmentMB
}

// Server is a running PostgreSQL cluster of a test, or one that the test stopped.
type Server struct {
	Version   int    // major
	Bin       string // folder of postgres and initdb
	DataDir   string
	SocketDir string
	Port      int

	root    string // holds everything of this server
	account *account
	args    []string // -c settings of the command line
	process *process
	starts  int
}

// Start makes a cluster and starts it: superuser postgres, trust, listening on a socket in SocketDir and on 127.0.0.1.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := prepare(tb, &o)
	s.DataDir = filepath.Join(s.root, "data")
	if err := newCluster(s.Bin, s.DataDir, o, s.account); err != nil {
		tb.Fatalf("make a PostgreSQL %d cluster: %v", s.Version, err)
	}
	s.configure(tb, o)
	s.launch(tb)
	return s
}

// StartDir starts an existing data directory, for example a restored one, and waits until it answers; when it does not,
// the test fails with the server's log. Port, sockets and durability are set on the command line, nothing in dir is
// changed but, for root, its owner.
func StartDir(tb testing.TB, version int, dir string, o Options) *Server {
	tb.Helper()
	s, err := TryStartDir(tb, version, dir, o)
	if err != nil {
		tb.Fatalf("start %s with PostgreSQL %d: %v\n%s", dir, version, err, s.Log())
	}
	return s
}

// TryStartDir is StartDir for a server that may refuse to start: the error says that it ended, Server.Log why.
func TryStartDir(tb testing.TB, version int, dir string, o Options) (*Server, error) {
	tb.Helper()
	o.Version = version
	s := prepare(tb, &o)
	s.DataDir = dir
	s.args = commandLine(s.settings(o))
	if err := s.account.reach(dir); err != nil {
		tb.Fatal(err)
	}
	if err := s.account.own(dir); err != nil {
		tb.Fatal(err)
	}
	return s, s.tryLaunch(tb)
}

// prepare finds the programs and makes the server's folders.
func prepare(tb testing.TB, o *Options) *Server {
	tb.Helper()
	if o.Version == 0 {
		o.Version = 15
	}
	a, err := serverAccount()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Version: o.Version, Bin: Bin(tb, o.Version), account: a, root: room(tb, o.Durable || o.OnDisk)}
	s.SocketDir = s.Dir(tb, "socket")
	if s.Port, err = freePort(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// Dir makes a folder that belongs to the server's user, for tablespaces and archives, and gives its path.
func (s *Server) Dir(tb testing.TB, name string) string {
	tb.Helper()
	dir := filepath.Join(s.root, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := s.account.own(dir); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// settings are those every server of a test gets, with the options' own over them.
func (s *Server) settings(o Options) map[string]string {
	out := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    fmt.Sprint(s.Port),
		"unix_socket_directories": s.SocketDir,
		"fsync":                   map[bool]string{true: "on", false: "off"}[o.Durable],
		"shared_buffers":          "16MB",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_line_prefix":         "%m [%p] ",
	}
	for k, v := range o.Settings {
		out[k] = v
	}
	return out
}

// configure writes the configuration files of a new cluster.
func (s *Server) configure(tb testing.TB, o Options) {
	tb.Helper()
	all := map[string]string{
		"wal_level": "replica", "max_wal_senders": "10", "max_replication_slots": "10", "max_connections": "50",
		"hot_standby": "on", "timezone": "UTC", "log_timezone": "UTC", "password_encryption": "scram-sha-256",
	}
	for k, v := range s.settings(o) {
		all[k] = v
	}
	var conf strings.Builder
	for _, name := range sortedKeys(all) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	s.appendFile(tb, "postgresql.conf", conf.String())
	usual := []string{
		"local all all trust", "local replication all trust",
		"host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust",
	}
	s.WriteFile(tb, "pg_hba.conf", strings.Join(append(slices.Clone(o.HBA), usual...), "\n")+"\n")
	for _, name := range sortedKeys(o.Files) {
		s.WriteFile(tb, name, o.Files[name])
	}
}

// WriteFile writes a file of the data directory, mode 0600, as the server's user.
func (s *Server) WriteFile(tb testing.TB, name, content string) {
	tb.Helper()
	path := filepath.Join(s.DataDir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := s.account.own(path); err != nil {
		tb.Fatal(err)
	}
}

func (s *Server) appendFile(tb testing.TB, name, content string) {
	tb.Helper()
	old, err := os.ReadFile(filepath.Join(s.DataDir, name))
	if err != nil {
		tb.Fatal(err)
	}
	s.WriteFile(tb, name, string(old)+content)
}

// Conninfo is libpq's string for the superuser over TCP.
func (s *Server) Conninfo() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", s.Port)
}

// Log gives what the server has logged since the first start.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.root, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func commandLine(settings map[string]string) []string {
	var out []string
	for _, name := range sortedKeys(settings) {
		out = append(out, "-c", name+"="+settings[name])
	}
	return out
}
