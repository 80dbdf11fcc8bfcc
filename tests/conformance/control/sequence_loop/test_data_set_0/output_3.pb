BsameJ¡ƒÁ?A?ãso½
S¿