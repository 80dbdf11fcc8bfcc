BzJ¡ƒAAAŽ@ãsï¾
S”À