package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// manyCopies reads the data as 13 and 14 send it: one COPY for each archive, then one with the manifest.
func (b *backup) manyCopies() error {
	for _, t := range b.start.Tablespaces {
		s := &oldCopy{copyReader{b: b}}
		if err := b.copyOut(); err != nil {
			return err
		}
		if err := b.give(s, func() error { return b.sink.Archive(t, s) }); err != nil {
			return err
		}
	}
	s := &oldCopy{copyReader{b: b, manifest: true}}
	if err := b.copyOut(); err != nil {
		return err
	}
	return b.give(s, func() error { return b.sink.Manifest(s) })
}

// oneCopy reads the data as 15 and later send it: one COPY whose messages say what begins.
func (b *backup) oneCopy() error {
	if err := b.copyOut(); err != nil {
		return err
	}
	s := &newCopy{copyReader: copyReader{b: b, reports: true}}
	given, manifest := 0, false
	for {
		if n, err := io.Copy(io.Discard, s); err != nil {
			return err
		} else if n > 0 {
			return protocolError("data before the first archive")
		}
		switch kind := s.takeBegun(); {
		case kind == 0: // CopyDone
			if given != len(b.start.Tablespaces) || !manifest {
				return protocolError("%d archives of %d, manifest %t", given, len(b.start.Tablespaces), manifest)
			}
			return nil
		case manifest:
			return protocolError("something after the manifest")
		case kind == 'm':
			manifest, s.manifest = true, true
			if err := b.give(s, func() error { return b.sink.Manifest(s) }); err != nil {
				return err
			}
		case given == len(b.start.Tablespaces):
			return protocolError("more archives than tablespaces")
		default:
			t := b.start.Tablespaces[given]
			given++
			if err := checkArchiveName(t, s.name); err != nil {
				return err
			}
			if err := b.give(s, func() error { return b.sink.Archive(t, s) }); err != nil {
				return err
			}
		}
	}
}

// checkArchiveName makes sure that the archive is the one whose turn it is: base.tar or OID.tar, with a compression's
// suffix.
func checkArchiveName(t BackupTablespace, name string) error {
	want := "base.tar"
	if t.OID != 0 {
		want = fmt.Sprintf("%d.tar", t.OID)
	}
	if name != want && !strings.HasPrefix(name, want+".") {
		return protocolError("the archive %q where %s was next", cleanText(name), want)
	}
	return nil
}

// give lets the sink read a stream and passes over what it left.
func (b *backup) give(s archiveStream, take func() error) error {
	if err := take(); err != nil {
		if broken := s.failure(); broken != nil {
			return broken // the sink only passes it on
		}
		return sinkError{err}
	}
	_, err := io.Copy(io.Discard, s)
	return err
}

// archiveStream is either form of a stream, with the error that broke it.
type archiveStream interface {
	io.Reader
	failure() error
}

func (b *backup) copyOut() error {
	kind, _, err := b.r.wire.next()
	if err == nil && kind != 'H' {
		err = protocolError("%q instead of COPY", kind)
	}
	return err
}

// copyReader is what both forms share: the rest of the message that is being read.
type copyReader struct {
	b        *backup
	rest     []byte
	manifest bool
	reports  bool  // the server tells the progress
	err      error // that ended the stream
}

func (c *copyReader) failure() error {
	if errors.Is(c.err, io.EOF) {
		return nil
	}
	return c.err
}

// read hands out data, asking advance for more.
func (c *copyReader) read(p []byte, advance func() error) (int, error) {
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		if err := advance(); err != nil {
			c.err = err
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	c.took(n)
	return n, nil
}

// writeTo hands messages on without a copy.
func (c *copyReader) writeTo(w io.Writer, advance func() error) (n int64, err error) {
	for {
		if len(c.rest) > 0 {
			k, err := w.Write(c.rest)
			n += int64(k)
			c.rest = c.rest[k:]
			c.took(k)
			if err != nil {
				return n, err
			}
		}
		if len(c.rest) == 0 && c.err == nil {
			c.err = advance()
		}
		if errors.Is(c.err, io.EOF) {
			return n, nil
		}
		if c.err != nil {
			return n, c.err
		}
	}
}

// progressStep is how much data comes between two reports to the sink.
const progressStep = 1 << 20

// took counts data that was handed out, and reports it once in a while where the server does not report itself.
func (c *copyReader) took(n int) {
	if c.manifest {
		return
	}
	before := c.b.done
	c.b.done += int64(n)
	if !c.reports && before/progressStep != c.b.done/progressStep {
		c.b.sink.Progress(c.b.done)
	}
}

// oldCopy is one COPY of 13 or 14.
type oldCopy struct{ copyReader }

// Read gives the archive's bytes.
func (c *oldCopy) Read(p []byte) (int, error) { return c.read(p, c.advance) }

// WriteTo gives the archive's bytes message by message.
func (c *oldCopy) WriteTo(w io.Writer) (int64, error) { return c.writeTo(w, c.advance) }

func (c *oldCopy) advance() error {
	kind, body, err := c.b.r.wire.next()
	switch {
	case err != nil:
		return err
	case kind == 'c':
		return io.EOF
	case kind != 'd':
		return protocolError("%q in a backup", kind)
	}
	c.rest = body // may be empty
	return nil
}

// newCopy is the COPY of 15 and later, read as one stream after another.
type newCopy struct {
	copyReader
	begun byte   // 'n' or 'm' was read and not yet taken
	name  string // of the archive that begins
	done  bool   // CopyDone
}

// takeBegun starts the stream that follows; 0: none.
func (c *newCopy) takeBegun() byte {
	kind := c.begun
	c.begun = 0
	if kind != 0 {
		c.err = nil
	}
	return kind
}

// Read gives the stream's bytes.
func (c *newCopy) Read(p []byte) (int, error) { return c.read(p, c.advance) }

// WriteTo gives the stream's bytes message by message.
func (c *newCopy) WriteTo(w io.Writer) (int64, error) { return c.writeTo(w, c.advance) }

func (c *newCopy) advance() error {
	if c.done || c.begun != 0 {
		return io.EOF
	}
	kind, body, err := c.b.r.wire.next()
	switch {
	case err != nil:
		return err
	case kind == 'c':
		c.done = true
		return io.EOF
	case kind != 'd' || len(body) == 0:
		return protocolError("%q of %d bytes in a backup", kind, len(body))
	}
	return c.message(body[0], body[1:])
}

// message reads one of the four kinds.
func (c *newCopy) message(kind byte, body []byte) error {
	switch kind {
	case 'd':
		c.rest = body
		return nil
	case 'm':
		c.begun = 'm'
		return io.EOF
	case 'n':
		f := strings.Split(string(body), "\x00")
		if len(f) != 3 || f[2] != "" {
			return protocolError("an archive without a name")
		}
		c.begun, c.name = 'n', f[0]
		return io.EOF
	case 'p':
		if len(body) != 8 || binary.BigEndian.Uint64(body) > 1<<62 {
			return protocolError("a report of progress that cannot be read")
		}
		c.b.sink.Progress(int64(binary.BigEndian.Uint64(body)))
		return nil
	}
	return protocolError("message %q in a backup", kind)
}

// uploadManifest sends the manifest of the backup that an incremental one builds on.
func (r *Replication) uploadManifest(ctx context.Context, manifest io.Reader) error {
	err := r.command(ctx, "send the parent's manifest to "+r.server, func() error {
		if err := r.wire.sendQuery(ctx, "UPLOAD_MANIFEST"); err != nil {
			return err
		}
		kind, _, err := r.wire.next()
		if err == nil && kind != 'G' {
			err = protocolError("%q instead of a request for the manifest", kind)
		}
		if err != nil {
			return err
		}
		if err := r.sendCopy(ctx, manifest); err != nil {
			return err
		}
		return r.readyForQuery()
	})
	var own sinkError
	if errors.As(err, &own) {
		return own.err
	}
	return err
}

func (r *Replication) sendCopy(ctx context.Context, from io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if err := r.wire.send(ctx, 'd', buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return r.wire.send(ctx, 'c', nil)
		}
		if err != nil {
			return sinkError{err}
		}
	}
}
