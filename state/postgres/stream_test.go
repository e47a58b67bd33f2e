package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

const smallSegment = wal.SegmentSize(1 << 20)

// patience bounds what only a test that fails waits for.
const patience = 10 * time.Minute

// collected is WAL as it came, from its first byte on.
type collected struct {
	start wal.LSN
	data  []byte
}

func (c *collected) end() wal.LSN { return c.start + wal.LSN(len(c.data)) }

// until reads messages up to a position, or to the stream's end.
func (c *collected) until(t *testing.T, s *postgres.Stream, to wal.LSN) error {
	t.Helper()
	for c.end() < to {
		m, err := s.Next(t.Context(), time.Now().Add(patience))
		if errors.Is(err, postgres.ErrIdle) {
			t.Fatalf("no WAL beyond %s; %s was wanted", c.end(), to)
		}
		if err != nil {
			return err
		}
		c.take(t, m)
	}
	return nil
}

// take keeps the WAL of a message.
func (c *collected) take(t *testing.T, m postgres.Message) {
	t.Helper()
	if m.Keepalive {
		return
	}
	if m.Start != c.end() {
		t.Fatalf("WAL at %s after %s", m.Start, c.end())
	}
	c.data = append(c.data, m.Data...)
}

// reply waits for a keepalive, which the server was asked for. A server writes WAL of its own accord at any time.
func (c *collected) reply(t *testing.T, s *postgres.Stream) postgres.Message {
	t.Helper()
	for {
		m, err := s.Next(t.Context(), time.Now().Add(patience))
		if err != nil {
			t.Fatalf("the reply that was asked for: %v", err)
		}
		if m.Keepalive {
			return m
		}
		c.take(t, m)
	}
}

// same compares whole segments with the server's files.
func (c *collected) same(t *testing.T, s *pgtest.Server, timeline wal.Timeline) {
	t.Helper()
	compared := 0
	for at := c.start; at+wal.LSN(smallSegment) <= c.end(); at += wal.LSN(smallSegment) {
		name := smallSegment.SegmentAt(timeline, at).Name(smallSegment)
		want, err := os.ReadFile(filepath.Join(s.DataDir, "pg_wal", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, c.data[at-c.start:at-c.start+wal.LSN(smallSegment)]) {
			t.Fatalf("segment %s differs from the server's", name)
		}
		compared++
	}
	if compared < 2 {
		t.Fatalf("only %d segments", compared)
	}
}

func flushed(t *testing.T, s *pgtest.Server) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(s.SQL(t, "select pg_current_wal_flush_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestStream(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{Version: v, SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "512MB", "wal_sender_timeout": "0"}})
			c := connect(t, s.Conninfo())
			if err := c.CreateSlot(t.Context(), "keep"); err != nil {
				t.Fatal(err)
			}
			r := walsender(t, s.Conninfo())
			got := collected{start: smallSegment.Floor(flushed(t, s))}
			stream, err := r.Stream(t.Context(), postgres.StreamOptions{Slot: "keep", Timeline: 1, From: got.start})
			if err != nil {
				t.Fatal(err)
			}
			s.Exec(t, "create table a as select g, md5(g::text) from generate_series(1, 40000) g")
			s.Exec(t, "select pg_switch_wal()")
			if err := got.until(t, stream, flushed(t, s)); err != nil {
				t.Fatal(err)
			}
			testIdle(t, stream, &got)
			testStatus(t, s, stream, &got)
			testBuffered(t, stream, &got)
			got.same(t, s, 1)
			testShutdown(t, s, stream, &got)
		})
	}
}

// testIdle lets deadlines pass, in mid silence, and goes on. What a server writes of its own accord, as of running
// transactions, may end a silence at any moment.
func testIdle(t *testing.T, stream *postgres.Stream, got *collected) {
	t.Helper()
	limit := time.Now().Add(patience)
	for silences := 0; silences < 3; {
		m, err := stream.Next(t.Context(), time.Now().Add(10*time.Millisecond))
		switch {
		case errors.Is(err, postgres.ErrIdle) && !stream.Buffered():
			silences++
		case err == nil:
			got.take(t, m)
		case !errors.Is(err, postgres.ErrIdle):
			t.Fatalf("in silence: %v", err)
		}
		if time.Now().After(limit) {
			t.Fatal("it is never silent, or something waits in silence")
		}
	}
}

// testBuffered sees what the kernel holds before it was read.
func testBuffered(t *testing.T, stream *postgres.Stream, got *collected) {
	t.Helper()
	for limit := time.Now().Add(patience); ; {
		if err := stream.SendStatus(t.Context(), postgres.Status{Written: got.end(), Flushed: got.end() - 100, Now: time.Now(), RequestReply: true}); err != nil {
			t.Fatal(err)
		}
		for !stream.Buffered() {
			if time.Now().After(limit) {
				t.Fatal("the reply is not seen")
			}
			time.Sleep(time.Millisecond)
		}
		m, err := stream.Next(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if m.Keepalive {
			return
		}
		got.take(t, m) // under TLS the reply may have been read with it: another one is asked for
	}
}

// testStatus reports a position and finds it on the server, with nothing applied.
func testStatus(t *testing.T, s *pgtest.Server, stream *postgres.Stream, got *collected) {
	t.Helper()
	end := got.end()
	status := postgres.Status{Written: end, Flushed: end - 100, Now: time.Now(), RequestReply: true}
	if err := stream.SendStatus(t.Context(), status); err != nil {
		t.Fatal(err)
	}
	m := got.reply(t, stream)
	if age := time.Since(m.ServerTime); age > time.Hour || age < -time.Hour || m.ServerEnd < end {
		t.Fatalf("keepalive of %s, end %s", m.ServerTime, m.ServerEnd)
	}
	want := fmt.Sprintf("%s|%s|t", end, end-100)
	if got := s.SQL(t, "select write_lsn, flush_lsn, replay_lsn is null from pg_stat_replication"); got != want {
		t.Fatalf("the server saw %s, not %s", got, want)
	}
}

// testShutdown stops the server fast: it ends once everything is reported as flushed.
func testShutdown(t *testing.T, s *pgtest.Server, stream *postgres.Stream, got *collected) {
	t.Helper()
	stopped := make(chan struct{})
	go func() {
		s.Stop(t, "fast")
		close(stopped)
	}()
	var err error
	for err == nil {
		var m postgres.Message
		m, err = stream.Next(t.Context(), time.Now().Add(patience))
		if err == nil && !m.Keepalive {
			got.data = append(got.data, m.Data...)
		}
		if err == nil {
			_ = stream.SendStatus(t.Context(), postgres.Status{Written: got.end(), Flushed: got.end(), Now: time.Now()})
		}
	}
	if !errors.Is(err, postgres.ErrServerShutdown) {
		t.Fatalf("a fast shutdown gave %v", err)
	}
	<-stopped
}

func TestStreamFollowsAPromotion(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{Version: v, SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "512MB", "wal_sender_timeout": "0"}})
			b := s.Standby(t, pgtest.Options{})
			s.Exec(t, "create table a as select g, md5(g::text) from generate_series(1, 40000) g")
			b.AwaitReplay(t, s)
			f, err := connect(t, b.Conninfo()).Facts(t.Context())
			if err != nil || !f.InRecovery || f.Timeline != 1 || f.FlushLSN == 0 {
				t.Fatalf("standby: %+v, %v", f, err)
			}
			r := walsender(t, b.Conninfo())
			got := collected{start: smallSegment.Floor(flushed(t, s)) - 2*wal.LSN(smallSegment)}
			stream, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 1, From: got.start})
			if err != nil {
				t.Fatal(err)
			}
			if err := got.until(t, stream, flushed(t, s)); err != nil {
				t.Fatal(err)
			}
			if err := connect(t, b.Conninfo()).CreateSlot(t.Context(), "ours"); err != nil {
				t.Fatal(err)
			}
			if _, err := connect(t, b.Conninfo()).SwitchWAL(t.Context()); state.CodeOf(err) != state.CodeSettings {
				t.Fatalf("switch on a standby: %v", err)
			}
			b.Promote(t)
			var end *postgres.EndOfTimeline
			if err := got.until(t, stream, 1<<62); !errors.As(err, &end) || end.Next != 2 || end.Switch != got.end() {
				t.Fatalf("at %s after the promotion: %v", got.end(), err)
			}
			testSecondTimeline(t, b, r, end)
		})
	}
}

func testSecondTimeline(t *testing.T, b *pgtest.Server, r *postgres.Replication, end *postgres.EndOfTimeline) {
	history, err := r.TimelineHistory(t.Context(), 2)
	if err != nil || !bytes.Contains(history, []byte("1\t"+end.Switch.String()+"\t")) {
		t.Fatalf("history %q, %v", history, err)
	}
	done, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 1, From: end.Switch})
	if err != nil {
		t.Fatal(err)
	}
	var again *postgres.EndOfTimeline
	if _, err := done.Next(t.Context(), time.Now().Add(patience)); !errors.As(err, &again) || *again != *end {
		t.Fatalf("a timeline with nothing left: %v", err)
	}
	b.Exec(t, "create table b as select g, md5(g::text) from generate_series(1, 40000) g")
	got := collected{start: smallSegment.Floor(end.Switch)}
	stream, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 2, From: got.start})
	if err != nil {
		t.Fatal(err)
	}
	if err := got.until(t, stream, flushed(t, b)); err != nil {
		t.Fatal(err)
	}
	got.same(t, b, 2)
	f, err := connect(t, b.Conninfo()).Facts(t.Context())
	if err != nil || f.InRecovery || f.Timeline != 2 {
		t.Fatalf("promoted: %+v, %v", f, err)
	}
}

// TestABusyServerDoesNotOutrunTheEnd has a server that always has one more message to send when it is asked.
func TestABusyServerDoesNotOutrunTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = readMessage(c)
		_, err = c.Write(both)
		for keepalive := copyData("k" + strings.Repeat("\x00", 17)); err == nil; {
			_, err = c.Write(keepalive)
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := postgres.OnConn(conn, 150018)
	defer func() { _ = r.Close(); <-done }()
	stream, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 1, From: 0x1000000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100_000 {
		if _, err = stream.Next(ctx, time.Now().Add(patience)); err != nil {
			break
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after 100000 messages that came since the end: %v", err)
	}
}

func TestCloseEndsAWait(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	r := walsender(t, s.Conninfo())
	end := flushed(t, s)
	stream, err := r.Stream(t.Context(), postgres.StreamOptions{Timeline: 1, From: end})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = stream.Close() })
	for err == nil {
		_, err = stream.Next(t.Context(), time.Now().Add(patience))
	}
	if state.CodeOf(err) != state.CodeUnreachable {
		t.Fatal(err)
	}
}

func BenchmarkStream(b *testing.B) {
	s := pgtest.Start(b, pgtest.Options{Settings: map[string]string{"wal_keep_size": "4GB", "max_wal_size": "4GB"}})
	s.Exec(b, "create table a as select g, repeat('x', 1000) from generate_series(1, 300000) g")
	z := wal.DefaultSegmentSize
	end, err := wal.ParseLSN(s.SQL(b, "select pg_current_wal_flush_lsn()"))
	if err != nil {
		b.Fatal(err)
	}
	from := z.Floor(end) - 16*wal.LSN(z)
	b.SetBytes(int64(end - from))
	for b.Loop() {
		r := walsender(b, s.Conninfo())
		stream, err := r.Stream(b.Context(), postgres.StreamOptions{Timeline: 1, From: from})
		for at := from; at < end && err == nil; {
			var m postgres.Message
			m, err = stream.Next(b.Context(), time.Now().Add(patience))
			at += wal.LSN(len(m.Data))
		}
		if err != nil {
			b.Fatal(err)
		}
		_ = stream.Close()
	}
}
