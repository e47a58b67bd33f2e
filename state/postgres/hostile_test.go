package postgres_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// script is what a fake walsender sends once it was asked for something; nil bytes in between wait for a message.
type script [][]byte

// fake gives a session whose other end plays the script and then waits to be left.
func fake(t *testing.T, version int, s script) *postgres.Replication {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		if readMessage(theirs) != nil {
			return
		}
		for _, b := range s {
			if b == nil {
				if readMessage(theirs) != nil {
					return
				}
				continue
			}
			if _, err := theirs.Write(b); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, theirs)
	}()
	r := postgres.OnConn(ours, version)
	t.Cleanup(func() {
		_ = ours.Close()
		<-done
	})
	return r
}

func readMessage(r io.Reader) error {
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(h[1:]))-4)
	return err
}

func raw(kind byte, body string) []byte {
	b := append([]byte{kind}, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(body)+4))
	return append(b, body...)
}

func encode(t testing.TB, messages ...pgproto3.BackendMessage) []byte {
	t.Helper()
	var out []byte
	for _, m := range messages {
		var err error
		if out, err = m.Encode(out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func row(fields ...string) *pgproto3.DataRow {
	var d pgproto3.DataRow
	for _, f := range fields {
		if f == "NULL" {
			d.Values = append(d.Values, nil)
			continue
		}
		d.Values = append(d.Values, []byte(f))
	}
	return &d
}

// result is a result set of these rows.
func result(t testing.TB, rows ...*pgproto3.DataRow) []byte {
	out := encode(t, &pgproto3.RowDescription{})
	for _, r := range rows {
		out = append(out, encode(t, r)...)
	}
	return append(out, encode(t, &pgproto3.CommandComplete{CommandTag: []byte("X")})...)
}

func ready(t testing.TB) []byte { return encode(t, &pgproto3.ReadyForQuery{TxStatus: 'I'}) }

func copyData(b string) []byte { return raw('d', b) }

func xlog(start uint64, data string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'w'}, start)
	b = binary.BigEndian.AppendUint64(b, start+uint64(len(data)))
	b = binary.BigEndian.AppendUint64(b, 0)
	return copyData(string(b) + data)
}

var both = raw('W', "\x00\x00\x00")

func TestHostileStream(t *testing.T) {
	const from = 0x1000000
	huge := []byte{'d', 0x7f, 0xff, 0xff, 0xff}
	for name, c := range map[string]struct {
		script script
		good   int // messages before the refusal
	}{
		"huge message":         {script{both, huge}, 0},
		"negative length":      {script{both, {'d', 0xff, 0xff, 0xff, 0xff}}, 0},
		"short length":         {script{both, {'d', 0, 0, 0, 3}}, 0},
		"starts elsewhere":     {script{both, xlog(from+1, "a")}, 0},
		"goes back":            {script{both, xlog(from, "abc"), xlog(from, "abc")}, 1},
		"leaves a hole":        {script{both, xlog(from, "abc"), xlog(from+4, "abc")}, 1},
		"endless nothing":      {script{both, xlog(from, "")}, 0},
		"short header":         {script{both, copyData("w1234")}, 0},
		"short keepalive":      {script{both, copyData("k1234")}, 0},
		"unknown message":      {script{both, copyData("z")}, 0},
		"empty message":        {script{both, copyData("")}, 0},
		"unknown type":         {script{both, raw('Q', "x")}, 0},
		"no stream":            {script{raw('H', "\x00\x00\x00")}, 0},
		"bad next timeline":    {script{both, raw('c', ""), nil, result(t, row("0", "0/1")), ready(t)}, 0},
		"bad switch":           {script{both, raw('c', ""), nil, result(t, row("2", "x")), ready(t)}, 0},
		"two next timelines":   {script{both, raw('c', ""), nil, result(t, row("2", "0/1"), row("3", "0/1")), ready(t)}, 0},
		"garbage at the end":   {script{both, raw('c', ""), nil, raw('G', "x")}, 0},
		"error without fields": {script{both, raw('E', "\x01")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := fake(t, 150018, c.script)
			stream, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 1, From: from})
			for good := 0; err == nil; good++ {
				if _, err = stream.Next(t.Context(), time.Now().Add(patience)); err == nil && good >= c.good {
					t.Fatal("taken")
				}
			}
			if state.CodeOf(err) != state.CodeProtocol {
				t.Fatalf("%s, %v", state.CodeOf(err), err)
			}
			if r.BufferSize() > 2<<20 {
				t.Fatalf("%d bytes set aside", r.BufferSize())
			}
			if _, err := r.IdentifySystem(t.Context()); err == nil {
				t.Fatal("the session goes on")
			}
		})
	}
}

// A message that comes in pieces, with deadlines in between, is whole in the end.
func TestDeadlineInMidMessage(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	r := postgres.OnConn(ours, 150018)
	defer r.Close()
	whole := xlog(0x1000000, strings.Repeat("wal", 1000))
	piece, taken := make(chan []byte), make(chan struct{}, 1)
	go func() {
		_ = readMessage(theirs)
		_, _ = theirs.Write(both)
		for b := range piece {
			_, _ = theirs.Write(b)
			taken <- struct{}{}
		}
	}()
	stream, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 1, From: 0x1000000})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{whole[:3], whole[3:7], whole[7:1000], whole[1000 : len(whole)-1]} {
		piece <- b
		for came := false; !came; {
			if _, err := stream.Next(t.Context(), time.Now().Add(5*time.Millisecond)); !errors.Is(err, postgres.ErrIdle) {
				t.Fatalf("in mid message: %v", err)
			}
			select {
			case <-taken:
				came = true
			default:
			}
		}
	}
	piece <- whole[len(whole)-1:]
	m, err := stream.Next(t.Context(), time.Now().Add(patience))
	if err != nil || m.Start != 0x1000000 || string(m.Data) != strings.Repeat("wal", 1000) {
		t.Fatalf("%d bytes at %s, %v", len(m.Data), m.Start, err)
	}
	close(piece)
}

func TestHostileAnswers(t *testing.T) {
	identify := func(r *postgres.Replication) error { _, err := r.IdentifySystem(t.Context()); return err }
	segment := func(r *postgres.Replication) error { _, err := r.SegmentSize(t.Context()); return err }
	patience := func(r *postgres.Replication) error { _, err := r.SenderTimeout(t.Context()); return err }
	history := func(r *postgres.Replication) error { _, err := r.TimelineHistory(t.Context(), 2); return err }
	endless := script{encode(t, &pgproto3.RowDescription{})}
	for range 40 {
		endless = append(endless, encode(t, row(strings.Repeat("x", 1<<19))))
	}
	for name, c := range map[string]struct {
		script script
		ask    func(*postgres.Replication) error
	}{
		"system id":          {script{result(t, row("-1", "1", "0/1", "NULL")), ready(t)}, identify},
		"timeline":           {script{result(t, row("1", "0", "0/1", "NULL")), ready(t)}, identify},
		"position":           {script{result(t, row("1", "1", "0/111111111", "NULL")), ready(t)}, identify},
		"no row":             {script{result(t), ready(t)}, identify},
		"short row":          {script{result(t, row("1")), ready(t)}, identify},
		"torn row":           {script{result(t)[:7], raw('D', "\x00\x04\x00\x00")}, identify},
		"no result":          {script{ready(t)}, identify},
		"endless result":     {endless, identify},
		"segment of 3 MB":    {script{result(t, row("3MB")), ready(t)}, segment},
		"segment of 2 GB":    {script{result(t, row("2GB")), ready(t)}, segment},
		"segment of nothing": {script{result(t, row("NULL")), ready(t)}, segment},
		"patience of words":  {script{result(t, row("a while")), ready(t)}, patience},
		"patience of years":  {script{result(t, row("9999d")), ready(t)}, patience},
		"other history":      {script{result(t, row("00000003.history", "1\t0/1\tx\n")), ready(t)}, history},
		"path as history":    {script{result(t, row("../../etc/passwd", "x")), ready(t)}, history},
		"empty history":      {script{result(t, row("00000002.history", "")), ready(t)}, history},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.ask(fake(t, 150018, c.script)); state.CodeOf(err) != state.CodeProtocol {
				t.Fatalf("%s, %v", state.CodeOf(err), err)
			}
		})
	}
}

// text that a server sends is one clean line in an error.
func TestServerTextIsCleaned(t *testing.T) {
	r := fake(t, 150018, script{encode(t, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000", Message: "a\x1b[2J\nb\u202e" + strings.Repeat("c", 5000)}), ready(t)})
	_, err := r.IdentifySystem(t.Context())
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\n\u202e") || len(err.Error()) > 600 {
		t.Fatalf("%q", err)
	}
}

// counted is a sink that counts and reads all.
type counted struct {
	bytes    int64
	archives int
}

func (c *counted) Begin(postgres.BackupStart) error { return nil }
func (c *counted) Archive(_ postgres.BackupTablespace, r io.Reader) error {
	c.archives++
	n, err := io.Copy(io.Discard, r)
	c.bytes += n
	return err
}
func (c *counted) Manifest(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }
func (c *counted) Progress(int64)             {}

func TestHostileBaseBackup(t *testing.T) {
	start := result(t, row("0/2000028", "1"))
	base := result(t, row("NULL", "NULL", "100"))
	out := raw('H', "\x00\x00\x00")
	archive := func(name string) []byte { return copyData("n" + name + "\x00\x00") }
	done := raw('c', "")
	stop := result(t, row("0/2000100", "1"))
	good15 := script{start, base, out, archive("base.tar"), copyData("dabc"), copyData("p\x00\x00\x00\x00\x00\x00\x00\x03"), copyData("m"), copyData("d{}"), done, stop, ready(t)}
	good14 := script{start, base, out, copyData("abc"), copyData(""), done, out, copyData("{}"), done, stop, ready(t)}
	for version, s := range map[int]script{150018: good15, 140023: good14} {
		var sink counted
		res, err := fake(t, version, s).BaseBackup(t.Context(), postgres.BackupOptions{}, &sink)
		if err != nil || sink.bytes != 3 || sink.archives != 1 || res.StopLSN != wal.LSN(0x2000100) {
			t.Fatalf("%d: %+v, %+v, %v", version, sink, res, err)
		}
	}
	with := func(at int, b ...[]byte) script {
		s := append(script{}, good15[:at]...)
		return append(append(s, b...), good15[at+1:]...)
	}
	spaces := func(rows ...*pgproto3.DataRow) script { return with(1, result(t, rows...)) }
	for name, s := range map[string]script{
		"no data directory":       spaces(row("16384", "/a", "1")),
		"two data directories":    spaces(row("NULL", "NULL", "1"), row("NULL", "NULL", "1")),
		"tablespace twice":        spaces(row("1", "/a", "1"), row("1", "/b", "1"), row("NULL", "NULL", "1")),
		"tablespace upwards":      spaces(row("1", "../a", "1"), row("NULL", "NULL", "1")),
		"tablespace with dots":    spaces(row("1", "/a/../b", "1"), row("NULL", "NULL", "1")),
		"tablespace with newline": spaces(row("1", "/a\nb", "1"), row("NULL", "NULL", "1")),
		"negative size":           spaces(row("NULL", "NULL", "-1")),
		"start at zero":           with(0, result(t, row("0/0", "1"))),
		"timeline zero":           with(0, result(t, row("0/1", "0"))),
		"other archive":           with(3, archive("16384.tar")),
		"path as archive":         with(3, archive("../base.tar")),
		"unfinished name":         with(3, copyData("nbase.tar")),
		"data before archive":     with(3, copyData("dabc"), archive("base.tar")),
		"second archive":          with(6, archive("base.tar"), copyData("m")),
		"second manifest":         with(8, copyData("m"), done),
		"archive after manifest":  with(8, archive("base.tar"), done),
		"no manifest":             append(append(script{}, good15[:6]...), good15[8:]...),
		"no archive":              append(append(script{}, good15[:3]...), good15[6:]...),
		"unknown message":         with(5, copyData("x")),
		"empty message":           with(5, copyData("")),
		"bad progress":            with(5, copyData("p1")),
		"no copy":                 with(2, raw('G', "\x00\x00\x00")),
		"stop before start":       with(9, result(t, row("0/2000000", "1"))),
		"other timeline":          with(9, result(t, row("0/2000100", "2"))),
		"huge message":            with(4, []byte{'d', 0x40, 0, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			r := fake(t, 150018, s)
			_, err := r.BaseBackup(t.Context(), postgres.BackupOptions{}, &counted{})
			if state.CodeOf(err) != state.CodeProtocol {
				t.Fatalf("%s, %v", state.CodeOf(err), err)
			}
		})
	}
}

// A server that sends without end needs no memory here.
func TestEndlessBackupIsNotCollected(t *testing.T) {
	s := script{result(t, row("0/2000028", "1")), result(t, row("NULL", "NULL", "100")), raw('H', "\x00\x00\x00"), copyData("nbase.tar\x00\x00")}
	block := copyData("d" + strings.Repeat("x", 100_000))
	for range 3000 {
		s = append(s, block)
	}
	var before, after runtime.MemStats
	r := fake(t, 150018, append(s, raw('Q', "")))
	runtime.GC()
	runtime.ReadMemStats(&before)
	var sink counted
	_, err := r.BaseBackup(t.Context(), postgres.BackupOptions{}, &sink)
	runtime.ReadMemStats(&after)
	if state.CodeOf(err) != state.CodeProtocol || sink.bytes != 300_000_000 {
		t.Fatalf("%d bytes, %v", sink.bytes, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Fatalf("%d bytes allocated for 300 MB", used)
	}
}

// TestHostileGreeting lets real connections meet servers that misbehave before anybody is authenticated.
func TestHostileGreeting(t *testing.T) {
	ok := encode(t, &pgproto3.AuthenticationOk{})
	version := func(v string) []byte {
		return encode(t, &pgproto3.ParameterStatus{Name: "server_version", Value: v})
	}
	endless := append([]byte{}, ok...)
	for i := range 20_000 {
		endless = append(endless, encode(t, &pgproto3.ParameterStatus{Name: "p" + strconv.Itoa(i), Value: strings.Repeat("v", 100)})...)
	}
	for name, c := range map[string]struct {
		greeting []byte
		want     state.Code
	}{
		"endless parameters": {endless, state.CodeUnreachable},
		"huge message":       {append(ok, 'S', 0x7f, 0xff, 0xff, 0xff), state.CodeUnreachable},
		"too old":            {append(append(ok, version("12.22")...), ready(t)...), state.CodeVersion},
		"too new":            {append(append(ok, version("19.1")...), ready(t)...), state.CodeVersion},
		"no version":         {append(ok, ready(t)...), state.CodeUnreachable},
		"strange version":    {append(append(ok, version("canary")...), ready(t)...), state.CodeUnreachable},
		"ready at once":      {ready(t), state.CodeProtocol},
		"no PostgreSQL":      {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), state.CodeProtocol},
		"speaks unasked":     {append(append(append(ok, version("15.18")...), ready(t)...), ready(t)...), state.CodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						var h [4]byte
						_, _ = io.ReadFull(conn, h[:])
						_, _ = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(h[:]))-4)
						_, _ = conn.Write(c.greeting)
						_, _ = io.Copy(io.Discard, conn)
					}()
				}
			}()
			port := l.Addr().(*net.TCPAddr).Port
			info := parse(t, "host=127.0.0.1 user=a password=canary sslmode=disable port="+strconv.Itoa(port))
			timeout := patience
			if c.want == state.CodeUnreachable {
				timeout = time.Second // some say no more, and are given up
			}
			_, err = postgres.ConnectReplication(t.Context(), info, postgres.ConnectOptions{Timeout: timeout})
			if state.CodeOf(err) != c.want || strings.Contains(err.Error(), "canary\x00") {
				t.Fatalf("%s, %v", state.CodeOf(err), err)
			}
		})
	}
}
