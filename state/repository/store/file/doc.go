// Package file keeps a repository in a directory of this machine.
//
// An object becomes visible in one act: it is written to a temporary file below .pgkeep-tmp, fsynced, and given its
// final name by link(2), which fails when the name is taken; then the directory is fsynced, and once per process every
// parent up to the root. Where link(2) is refused, renameat2(RENAME_NOREPLACE) does the same; where neither works the
// store says so before anything is written. A kill at any point leaves a temporary file, never a final name with a part
// of the bytes. Temporary files of writers that are gone are collected when the store is next written to: a living
// writer holds a lock on its own.
//
// Everything goes through os.Root: no key, link or mount trick leads out of the directory, and a name that is a symbolic
// link is not an object. Files are 0600, directories 0700.
package file
