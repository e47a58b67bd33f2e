package file

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLook(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name          string
		make          func(string) error
		exists, empty bool
	}{
		{"absent", func(string) error { return nil }, false, true},
		{"empty", func(d string) error { return os.Mkdir(d, 0o700) }, true, true},
		{"fresh-file-system", func(d string) error { return os.MkdirAll(filepath.Join(d, "lost+found"), 0o700) }, true, true},
		{"our-probe", func(d string) error { return os.MkdirAll(filepath.Join(d, tempDir), 0o700) }, true, true},
		{"hidden", func(d string) error { return os.MkdirAll(filepath.Join(d, ".ssh"), 0o700) }, true, false},
		{"content", func(d string) error { return os.MkdirAll(filepath.Join(d, "base"), 0o700) }, true, false},
	}
	for _, test := range tests {
		path := filepath.Join(dir, test.name)
		if err := test.make(path); err != nil {
			t.Fatal(err)
		}
		facts, err := openIn(t, path).Look(t.Context())
		if err != nil || facts.Exists != test.exists || facts.Empty != test.empty || facts.Total <= 0 || facts.Free < 0 {
			t.Errorf("%s: %+v, %v", test.name, facts, err)
		}
	}
}

// TestFstab has mount points of fstab that are and are not mounted, above and below the path, with escapes.
func TestFstab(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fstab, mounts := filepath.Join(dir, "fstab"), filepath.Join(dir, "mountinfo")
	write := func(name, content string) {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fstab, "# comment /x\n\nUUID=1 / ext4 defaults 0 1\nUUID=2 "+dir+"/srv ext4 defaults 0 2\n"+
		"UUID=3 "+dir+`/my\040disk`+" xfs noauto 0 2\nUUID=4 none swap sw 0 0\nnfs:/x "+dir+"/srv/deep nfs defaults 0 0\n")
	mount := func(points ...string) {
		content := "22 1 0:1 / / rw shared:1 - ext4 /dev/sda rw\n"
		for _, p := range points {
			content += "23 22 0:2 / " + p + " rw - ext4 /dev/sdb rw\n"
		}
		write(mounts, content)
	}
	link := filepath.Join(dir, "link")
	if err := os.Mkdir(filepath.Join(dir, "srv"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("srv", link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path    string
		mounted []string
		want    string
	}{
		{"/srv/pgkeep", nil, "/srv"},
		{"/srv", nil, "/srv"},
		{"/link/pgkeep", nil, "/srv"},
		{"/srv/pgkeep", []string{"/srv"}, ""},
		{"/srv/deep/x", []string{"/srv"}, "/srv/deep"},
		{"/srv/deep/x", []string{"/srv", "/srv/deep"}, ""},
		{"/srv/pgkeep/x", []string{"/srv/pgkeep"}, ""}, // mounted below by hand
		{"/srvother", nil, ""},
		{"/my disk/x", nil, "/my disk"},
		{"/elsewhere", nil, ""},
	}
	for _, test := range tests {
		var points []string
		for _, p := range test.mounted {
			points = append(points, dir+p)
		}
		mount(points...)
		s, err := Open(dir+test.path, Options{Fstab: fstab, Mounts: mounts})
		if err != nil {
			t.Fatal(err)
		}
		facts, err := s.Look(t.Context())
		want := test.want
		if want != "" {
			want = dir + want
		}
		if err != nil || facts.FstabMount != want {
			t.Errorf("%s with %v mounted: %q, %v, want %q", test.path, test.mounted, facts.FstabMount, err, want)
		}
		s.Close()
	}
}

// FuzzMountPoints reads fstab and mountinfo of any content: a mount point is an absolute path or none.
func FuzzMountPoints(f *testing.F) {
	f.Add([]byte(`a /srv\040 b`), []byte(`1 2 3 4 /srv\04`))
	f.Add([]byte("UUID=1 / ext4 defaults 0 1\n# /x\n"), []byte("22 1 0:1 / / rw - ext4 /dev/sda rw\n"))
	dir := f.TempDir()
	fstab, mounts := filepath.Join(dir, "fstab"), filepath.Join(dir, "mountinfo")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if err := errors.Join(os.WriteFile(fstab, a, 0o600), os.WriteFile(mounts, b, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(filepath.Join(dir, "x"), Options{Fstab: fstab, Mounts: mounts})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		point, err := s.unmounted()
		if err == nil && point != "" && !filepath.IsAbs(point) {
			t.Errorf("mount point %q", point)
		}
	})
}
