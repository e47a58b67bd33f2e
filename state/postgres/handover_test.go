package postgres_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// busy is a connection on a machine that is so busy that the first write ends only when everything that answers it was
// read, and somebody already waits for more.
type busy struct {
	net.Conn
	mu      sync.Mutex
	unread  int           // of the greeting
	hungry  chan struct{} // closed when somebody reads on
	written bool
}

func (b *busy) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.unread == 0 && b.hungry != nil {
		close(b.hungry)
		b.hungry = nil
	}
	b.mu.Unlock()
	n, err := b.Conn.Read(p)
	b.mu.Lock()
	b.unread -= min(n, b.unread)
	b.mu.Unlock()
	return n, err
}

func (b *busy) Write(p []byte) (int, error) {
	b.mu.Lock()
	first, hungry := !b.written, b.hungry
	b.written = true
	b.mu.Unlock()
	n, err := b.Conn.Write(p)
	if first {
		<-hungry
	}
	return n, err
}

// TestNothingIsReadBehindOurBack: pgconn reads in the background while a write lasts, and goes on reading after it. What the
// server answers to the first command is whole all the same.
func TestNothingIsReadBehindOurBack(t *testing.T) {
	version := encode(t, &pgproto3.ParameterStatus{Name: "server_version", Value: "15.18"})
	notice := encode(t, &pgproto3.NoticeResponse{Severity: "NOTICE", Message: "welcome"})
	for name, c := range map[string]struct {
		more []byte // behind the greeting
		want state.Code
	}{
		"nothing more": {nil, ""},
		"a notice":     {notice, ""},
		"an answer":    {ready(t), state.CodeProtocol},
		"half a word":  {ready(t)[:3], state.CodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			greeting := append(append(append(encode(t, &pgproto3.AuthenticationOk{}), version...), ready(t)...), c.more...)
			go func() {
				var h [4]byte
				_, _ = io.ReadFull(theirs, h[:])
				_, _ = io.CopyN(io.Discard, theirs, int64(binary.BigEndian.Uint32(h[:]))-4)
				_, _ = theirs.Write(greeting)
				_ = readMessage(theirs)
				_, _ = theirs.Write(append(result(t, row("7335180256203400928", "1", "0/1000000", "NULL")), ready(t)...))
				_, _ = io.Copy(io.Discard, theirs)
			}()
			r, err := postgres.OverConn(t.Context(), &busy{Conn: ours, unread: len(greeting), hungry: make(chan struct{})})
			if err == nil {
				defer r.Close()
				_, err = r.IdentifySystem(t.Context())
			}
			if state.CodeOf(err) != c.want || err != nil && c.want == "" {
				t.Fatalf("%s, %v", state.CodeOf(err), err)
			}
		})
	}
}
