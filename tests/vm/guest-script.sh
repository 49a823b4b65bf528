#!/bin/sh
# Works in the directory $1 like a person at a shell, and prints what came of it, one line a check. Runs under busybox
# in the guest on the share and on the host on its own file system: both have to print the same. $2 is guest-probe,
# which does what a shell cannot. Prints nothing that differs from run to run (times, inode numbers, devices).
probe=$2
cd "$1" || exit 1
umask 022

# run NAME TEXT: one line with the status and the output of a piece of shell text, its lines joined by '|'. A shell of
# its own, so that a failed redirection or exec ends that and not the script.
run() {
  output=$(sh -c "$2" 2>&1)
  status=$?
  echo "$1: $status $(echo "$output" | tr '\n' '|')"
}

echo "== files"
run 'create' 'echo one > file; cat file'
run 'append' 'echo two >> file; cat file'
run 'size' 'stat -c %s file'
run 'noclobber' 'set -C; echo x > file'
run 'noclobber, new name' 'set -C; echo x > file2 && cat file2'
run 'truncate shorter' 'truncate -s 2 file; od -c file'
run 'truncate longer' 'truncate -s 5 file; od -c file'
run 'dd in the middle' 'printf 0123456789 > digits; printf AB | dd of=digits bs=1 seek=4 conv=notrunc 2>/dev/null; cat digits'
run 'dd far out' 'printf end | dd of=digits bs=1 seek=100000 conv=notrunc 2>/dev/null; stat -c %s digits; tail -c 4 digits | od -c'
run 'dd from the middle' 'dd if=digits bs=1 skip=2 count=4 2>/dev/null'
run 'umask 0' 'umask 0; > umask0; mkdir dir0; stat -c %a umask0 dir0'
run 'umask 077' 'umask 077; > umask077; mkdir dir077; stat -c %a umask077 dir077'
run 'copy' 'cp file2 copy; cmp file2 copy && echo same'
run 'copy with mode and times' 'chmod 741 file2; touch -d "2001-02-03 04:05:06" file2; cp -p file2 kept; stat -c "%a %Y" kept'
run 'move' 'mv copy moved; ls copy moved'
run 'remove' 'rm moved; cat moved'
run 'a large file' 'seq 1 200000 > large; sha256sum large; wc large'
run 'sort a large file' 'sort -rn large | head -n 3'
run 'grep in it' 'grep -c 77 large'
run 'sed in place' 'sed -i s/one/1/ file2; cat file2'
run 'a pipe through the share' 'cat large | gzip -c > large.gz; zcat large.gz | cmp - large && echo same'
run 'tar there and back' 'mkdir tree; cp large digits tree; ln -s large tree/link; tar cf tree.tar tree; rm -r tree; tar xf tree.tar; ls tree; readlink tree/link; cmp tree/large large && echo same'

echo "== folders"
run 'mkdir -p' 'mkdir -p a/b/c/d; find a | sort'
run 'rmdir of a full folder' 'rmdir a/b'
run 'rmdir' 'rmdir a/b/c/d; ls a/b/c'
run 'rm -r' 'rm -r a; ls a'
run 'many names' 'mkdir many; cd many; seq 1 500 | xargs touch; ls | wc -l; ls | sort -n | tail -n 2'
run 'remove half' 'cd many; seq 1 2 500 | xargs rm; ls | wc -l'
run 'hidden names' 'touch many/.hidden; ls many | grep -c hidden; ls -A many | grep hidden'
run 'odd names' 'mkdir odd; cd odd; touch -- "a b" "*" "-x" "new
line"; ls -A | sort'
run 'links of a folder' 'mkdir nest nest/1 nest/2; stat -c %h nest; rmdir nest/1; stat -c %h nest'
run 'work in a folder after its rename' 'mkdir before; cd before; mv ../before ../after; echo x > here; cat ../after/here'
run 'cd and back' 'mkdir -p deep/er; cd deep/er; cd ..; ls'
run 'du' 'mkdir sizes; head -c 40000 /dev/zero > sizes/f; sync; test $(du -k sizes/f | cut -f 1) -ge 40 && echo enough'

echo "== links"
run 'hard link' 'echo shared > h1; ln h1 h2; echo more >> h2; cat h1; stat -c %h h1'
run 'same inode' 'test h1 -ef h2 && echo same'
run 'unlink one' 'rm h1; cat h2; stat -c %h h2'
run 'symlink' 'ln -s h2 s; cat s; readlink s; stat -c %F s'
run 'dangling symlink' 'ln -s nowhere d; cat d; readlink d'
run 'absolute symlink' 'ln -s /proc/self abs; readlink abs'
run 'symlink to a folder' 'ln -s many m; ls m | wc -l; rm m; ls many | wc -l'
run 'loop' 'ln -s l2 l1; ln -s l1 l2; cat l1'
run 'write through a symlink' 'echo through > s; cat h2'

echo "== renames"
run 'over a file' 'echo 1 > r1; echo 2 > r2; mv r1 r2; cat r2; ls r1'
run 'into a folder' 'mkdir rd; mv r2 rd; ls rd'
run 'a folder into a folder' 'mkdir rd2; mv rd2 rd; ls rd'
run 'a folder into itself' 'mv rd rd/rd2'
run 'across folders' 'mkdir x y; echo 1 > x/f; mv x/f y/g; cat y/g; ls x'
run 'while open' 'exec 3< y/g; mv y/g y/h; cat <&3'
run 'removed while open' 'exec 3< y/h; rm y/h; cat <&3; ls y'

echo "== permissions"
run 'chmod' 'echo x > p; for mode in 0 444 755 4755 2755 1777 7777; do chmod $mode p; stat -c %a p; done'
run 'chown' 'chown 1000:2000 p; stat -c "%u %g %a" p'
run 'chown drops set-id bits' 'chmod 6755 p; chown 1001 p; stat -c %a p'
run 'another user reads' "chmod 600 p; $probe as 1000 1000 cat p; chmod 644 p; $probe as 1000 1000 cat p"
run 'another user writes' "chmod 646 p; $probe as 1000 1000 sh -c 'echo by 1000 > p'; cat p"
run 'a write drops set-id bits' "chmod 6777 p; $probe as 1000 1000 sh -c 'echo again > p'; stat -c %a p"
run 'a write by root keeps them' 'chmod 6777 p; echo root >> p; stat -c %a p'
run 'a folder one may not search' "mkdir closed; chmod 700 closed; echo x > closed/f; chmod 666 closed/f; $probe as 1000 1000 cat closed/f"
run 'sticky' "mkdir sticky; chmod 1777 sticky; $probe as 1000 1000 touch sticky/f; $probe as 1001 1001 rm -f sticky/f; ls sticky"
run 'set-gid folder' "mkdir sg; chown 0:2000 sg; chmod 2777 sg; $probe as 1000 1000 sh -c 'echo x > sg/f; mkdir sg/d'; stat -c '%u %g %a' sg/f sg/d"
run 'owner of new files' "mkdir open; chmod 777 open; $probe as 1234 4321 sh -c 'echo x > open/f; mkdir open/d; ln -s x open/l; mkfifo open/p'; stat -c '%n %u %g %a' open/*"
run 'a read-only file' "echo x > ro; chown 1000 ro; chmod 444 ro; $probe as 1000 1000 sh -c 'echo y > ro'; echo z > ro; cat ro"

echo "== special files"
run 'fifo' 'mkfifo fifo; echo through > fifo & cat fifo; stat -c %F fifo'
run 'mknod' 'mknod zero c 1 5; mknod block b 7 200; stat -c "%F %t %T" zero block'
run 'run a script' 'printf "#!/bin/sh\necho ran \$1\n" > script; chmod 755 script; ./script well'

for section in $("$probe" sections); do
  echo "== guest-probe $section"
  "$probe" section "$section"
done
echo "== end"
